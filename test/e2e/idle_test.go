package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/test/audit"
)

// TestIdle counts, in the audit log of the API server, the calls of an operator whose Canary has settled: none but watches
// and its lease for a minute.
func TestIdle(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(1))
	kubeconfig := t.kubeconfigAs("idle-operator-" + t.ns)
	t.operate("-kubeconfig", kubeconfig, "-enable-leader-election", "-leader-election-lease-duration", "2m",
		"-leader-election-renew-deadline", "1m", "-leader-election-retry-period", "2s")
	t.create(canary())
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.ship(v2)
	t.settled(v1beta1.CanaryPhaseSucceeded)
	user := "idle-operator-" + t.ns
	t.untilQuiet(user)
	from := time.Now()
	letPass(time.Minute)

	calls, leases := t.calls(user, from)
	for _, c := range calls {
		t.Error(c)
	}
	if leases == 0 {
		t.Error("no call of the lease: the log is not about this operator")
	}
	t.Logf("%d calls besides watches and %d of the lease in 60 s", len(calls), leases)
}

// untilQuiet waits until a user has made no call for some seconds, besides watches and those of a lease.
func (t *team) untilQuiet(user string) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		from := time.Now()
		letPass(5 * time.Second)
		calls, _ := t.calls(user, from)
		switch {
		case len(calls) == 0:
			return
		case time.Now().After(end):
			t.Fatalf("%s goes on with %q", user, calls)
		}
	}
}

// kubeconfigAs writes a kubeconfig that acts as another user with all rights, so that the audit log tells its calls apart.
func (t *team) kubeconfigAs(user string) string {
	t.Helper()
	raw, err := os.ReadFile(os.Getenv("KUBECONFIG"))
	t.must(err)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	edited := strings.Replace(string(raw), "  user:\n", fmt.Sprintf("  user:\n    as: %s\n    as-groups: [system:masters]\n", user), 1)
	t.must(os.WriteFile(file, []byte(edited), 0o600))
	return file
}

// calls returns the calls that a user made since a time, without watches, and the number of those about its lease.
func (t *team) calls(user string, since time.Time) (calls []string, leases int) {
	t.Helper()
	t.audit(user, since, func(e *audit.Call) {
		switch {
		case e.Verb == "watch":
		case e.ObjectRef != nil && e.ObjectRef.Resource == "leases":
			leases++
		default:
			calls = append(calls, e.Verb+" "+e.RequestURI)
		}
	})
	return calls, leases
}

// audit hands over the calls that a user made since a time and until now, from the log of the API server.
func (t *team) audit(user string, since time.Time, each func(*audit.Call)) {
	t.Helper()
	t.must(audit.Read(os.Getenv("TESTBED_STATE"), user, since, time.Now(), each))
}
