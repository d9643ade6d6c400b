package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// underWay is how many connections a process opens when a step is stored: for the route, for the event, and for the lease.
const underWay = 3

// TestC02_ProcessThatStoodStill stops a process when it has stored a step and is about to write the route and the event of it. Another one
// takes its place. When the first one runs again it sends neither, and ends. The audit log of the API server proves it.
func TestC02_ProcessThatStoodStill(tt *testing.T) {
	tt.Parallel()
	for name, test := range map[string]struct {
		flags []string
		lost  string
	}{
		"leader": {flags: append(leaseTimes(), "-enable-leader-election"), lost: "the leader lease was lost"},
		"shards": {flags: sharing(parts), lost: "the shards were lost"},
	} {
		tt.Run(name, func(tt *testing.T) {
			tt.Parallel()
			s := newTeam(tt).sharers()
			s.flags, s.apps = append(test.flags, "-kubeconfig-timeout", patience.String()), 1
			s.standStill(test.lost)
		})
	}
}

// standStill is the story of a process that stands still in the middle of a step. It says what it has lost.
func (s *sharers) standStill(lost string) {
	s.Helper()
	way := s.tunnel()
	var step sync.Once
	first := s.addBehind("first", func(p *proxy) {
		// Each call has a connection of its own.
		p.Config.SetKeepAlivesEnabled(false)
		p.through = way.url()
		noted := p.ended
		p.ended = func(c call, response *http.Response) error {
			if weight, err := weightWritten(c, response); err != nil || weight == 0 {
				return noted(c, response)
			}
			step.Do(func() { way.turn(true) })
			return noted(c, response)
		}
	})
	s.shared(1)
	s.begin()
	s.shipTo("app-0", v2)
	if !way.holds(underWay) {
		s.Fatal("a step makes no calls")
	}
	s.must(first.cmd.Process.Signal(syscall.SIGSTOP))
	s.add("second")
	s.untilShares("other process that takes over", func(shares map[string]int) bool {
		return len(shares) == 1 && shares[first.identity()] == 0
	})
	stood := s.untilCanary("app-0", "the step", func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight > 0 }).Status.CanaryWeight
	s.untilCanary("app-0", "the next step", func(c *v1beta1.Canary) bool {
		return c.Status.CanaryWeight > stood || c.Status.Phase != v1beta1.CanaryPhaseProgressing
	})
	way.turn(false)
	s.must(first.cmd.Process.Signal(syscall.SIGCONT))
	if code := first.exit(); code != 1 || !strings.Contains(first.log.String(), lost) {
		s.Errorf("the process that stood still ended with code %d and said\n%s", code, first.log.String())
	}
	s.rest(v1beta1.CanaryPhaseSucceeded, v2)
	s.review()
	s.promoted(1)
}

// weightWritten is the weight of the canary in a status that a call wrote, 0 if it wrote none.
func weightWritten(c call, response *http.Response) (int32, error) {
	if !c.writes() || c.resource != "canaries/status" || response.StatusCode >= http.StatusMultipleChoices {
		return 0, nil
	}
	body, err := readBody(&response.Body)
	if err != nil {
		return 0, err
	}
	written := &v1beta1.Canary{}
	err = json.Unmarshal(body, written)
	return written.Status.CanaryWeight, err
}
