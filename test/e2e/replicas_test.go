package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// replicas are processes of one operator, each with a proxy of its own. The proxies know who has the lease and see who writes.
type replicas struct {
	*team
	mu sync.Mutex
	// leader is who has the lease according to its newest version.
	leader  *replica
	version int
	changed chan struct{}
	// strays are writes of those who did not have the lease.
	strays []string
	// writers counts the writes of each leader.
	writers map[*replica]int
}

type replica struct {
	*operator
	name string
	// cut is set when the replica is to lose its lease: what it writes of it does not arrive.
	cut bool
}

func (t *team) elect() *replicas {
	return &replicas{team: t, changed: make(chan struct{}), writers: map[*replica]int{}}
}

// add starts a replica.
func (r *replicas) add(name string) *replica {
	r.Helper()
	one, p := &replica{name: name}, r.proxy()
	p.began = func(c call) { r.began(one, c) }
	p.ended = func(c call, response *http.Response) error { return r.ended(one, c, response) }
	p.choose = func(c call) fault {
		r.mu.Lock()
		defer r.mu.Unlock()
		if one.cut && c.resource == "leases" {
			return unsent
		}
		return ""
	}
	one.operator = r.operate("-kubeconfig", p.kubeconfig(r), "-enable-leader-election", "-leader-election-lease-duration", "10s",
		"-leader-election-renew-deadline", "8s", "-leader-election-retry-period", "500ms")
	return one
}

func (r *replicas) began(one *replica, c call) {
	if !c.writes() || c.resource == "leases" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leader != one {
		r.strays = append(r.strays, fmt.Sprintf("%s: %s", one.name, c))
	}
	r.writers[one]++
}

// leaseWritten returns the lease that a call wrote, and its resource version, which tells the newer of two answers. It is nil if the
// call wrote none.
func leaseWritten(c call, response *http.Response) (*coordinationv1.Lease, int, error) {
	if !c.writes() || c.resource != "leases" || response.StatusCode >= http.StatusMultipleChoices {
		return nil, 0, nil
	}
	object, err := peek(&response.Body)
	if err != nil {
		return nil, 0, err
	}
	lease, ok := object.(*coordinationv1.Lease)
	if !ok {
		return nil, 0, fmt.Errorf("the answer about a lease is a %T", object)
	}
	number, err := strconv.Atoi(lease.ResourceVersion)
	return lease, number, err
}

// ended reads from the answers to its writes who has the lease.
func (r *replicas) ended(one *replica, c call, response *http.Response) error {
	lease, number, err := leaseWritten(c, response)
	if lease == nil || err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if number < r.version {
		return nil
	}
	leader := one
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		leader = nil
	}
	if r.version = number; leader != r.leader {
		r.leader = leader
		close(r.changed)
		r.changed = make(chan struct{})
	}
	return nil
}

// lead waits until a replica other than one has the lease.
func (r *replicas) lead(not *replica) *replica {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	for {
		r.mu.Lock()
		leader, changed := r.leader, r.changed
		r.mu.Unlock()
		if leader != nil && leader != not {
			return leader
		}
		select {
		case <-changed:
		case <-ctx.Done():
			r.Fatal("nobody got the lease")
		}
	}
}

// handOver stops the leader as Kubernetes would and starts another replica in its place. The one that waited is to go on.
func (r *replicas) handOver(phase v1beta1.CanaryPhase) {
	r.Helper()
	leader := r.lead(nil)
	if err := leader.stop(); err != nil {
		r.Errorf("%s: a normal stop: %v", phase, err)
	}
	r.mu.Lock()
	if r.leader == leader {
		r.Errorf("%s: a replica that stopped left its lease to run out", phase)
	}
	r.mu.Unlock()
	r.add("after " + string(phase))
	r.lead(leader)
}

// exit waits for the end of a process and returns its code.
func (o *operator) exit() (code int) {
	o.once.Do(func() {
		var exited *exec.ExitError
		if errors.As(<-o.done, &exited) {
			code = exited.ExitCode()
		}
	})
	return code
}

// loseLease keeps the leader from renewing its lease. It has to end before another one may lead.
func (r *replicas) loseLease() {
	r.Helper()
	leader := r.lead(nil)
	r.mu.Lock()
	leader.cut = true
	r.mu.Unlock()
	if code := leader.exit(); code != 1 || !strings.Contains(leader.log.String(), "the leader lease was lost") {
		r.Errorf("a replica that lost its lease ended with code %d and said\n%s", code, leader.log.String())
	}
	r.add("after the loss of the lease")
	r.lead(leader)
}

func (r *replicas) phase(phase v1beta1.CanaryPhase) {
	r.Helper()
	r.until(string(phase), func(c *v1beta1.Canary) bool { return c.Status.Phase == phase })
}

// TestC02_OneReplicaLeads stops the leader in every phase of a Canary, as Kubernetes would, and once lets it lose its lease: it
// ends with code 0 (C-03) or 1, the replica that waited goes on to the same end, and nobody ever writes without the lease.
func TestC02_OneReplicaLeads(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(1))
	t.available("podinfo")
	r := t.elect()
	r.add("first")
	r.lead(nil)
	r.add("second")
	t.create(canary(revertOnDeletion))
	for _, phase := range []v1beta1.CanaryPhase{v1beta1.CanaryPhaseInitializing, v1beta1.CanaryPhaseInitialized} {
		r.phase(phase)
		r.handOver(phase)
	}
	t.settled(v1beta1.CanaryPhaseInitialized)

	t.ship(v2)
	for _, phase := range []v1beta1.CanaryPhase{
		v1beta1.CanaryPhaseProgressing, v1beta1.CanaryPhasePromoting, v1beta1.CanaryPhaseFinalising, v1beta1.CanaryPhaseSucceeded,
	} {
		r.phase(phase)
		r.handOver(phase)
	}
	t.settled(v1beta1.CanaryPhaseSucceeded)
	if n, image := t.replicas("podinfo-primary"); n != 1 || image != v2 {
		t.Errorf("primary has %d replicas of %s", n, image)
	}

	t.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics[0].TemplateVariables["value"] = "50" })
	t.ship(v3)
	t.until("a failed check", func(c *v1beta1.Canary) bool { return c.Status.FailedChecks > 0 })
	r.loseLease()
	r.phase(v1beta1.CanaryPhaseFailed)
	r.handOver(v1beta1.CanaryPhaseFailed)
	t.settled(v1beta1.CanaryPhaseFailed)
	if n, _ := t.replicas("podinfo"); n != 0 {
		t.Errorf("a failed canary keeps %d replicas", n)
	}

	t.deleteCanary()
	r.phase(v1beta1.CanaryPhaseTerminating)
	r.handOver(v1beta1.CanaryPhaseTerminating)
	t.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "podinfo")
	if n, image := t.replicas("podinfo"); n != 1 || image != v3 || t.selects()["app"] != "podinfo" {
		t.Errorf("the target has %d replicas of %s, the Service selects %v", n, image, t.selects())
	}
	r.review()
}

// review looks back on who wrote, and on what users were told.
func (r *replicas) review() {
	r.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, stray := range r.strays {
		r.Errorf("a write without the lease: %s", stray)
	}
	if len(r.writers) < 5 {
		r.Errorf("only %d replicas wrote anything: they did not take over from each other", len(r.writers))
	}
	events := r.events()
	for text, want := range map[string]int{
		"Initialization done!": 1, "Scaling up": 2, "Copying": 1, "Promotion completed!": 1,
		"Rolling back": 1, "Canary failed!": 1, "Terminating": 1, "Terminated": 1, "canary weight 20": 2, "canary weight 40": 1,
	} {
		if n := count(events, text); n != want {
			r.Errorf("%q told %d times, want %d:\n%s", text, n, want, strings.Join(events, "\n"))
		}
	}
}
