package simulate

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// schedule plays whatever the bytes say: two bytes choose the Canary and its provider, then each byte is an event.
type schedule struct {
	bytes []byte
	w     *World
	// failing and closed are what metrics and hooks answer now.
	failing map[string]bool
	closed  bool
	abort   bool
	noData  bool
}

func (s *schedule) next() byte {
	if len(s.bytes) == 0 {
		return 0
	}
	b := s.bytes[0]
	s.bytes = s.bytes[1:]
	return b
}

func newSchedule(bytes []byte) *schedule {
	s := &schedule{bytes: bytes, failing: map[string]bool{}}
	shape, extra := s.next(), s.next()
	c := podinfo(threshold(3))
	a := c.Spec.Analysis
	switch shape % 6 {
	case 1:
		blueGreen(2)(&c.Spec)
	case 2:
		blueGreen(2)(&c.Spec)
		a.Match = []v1beta1.AnalysisMatch{{}}
	case 3:
		a.StepWeight, a.StepWeights, a.StepWeightPromotion = 0, []int32{5, 60}, 30
	case 4:
		a.StepWeight = 30
	}
	a.Mirror = extra&1 != 0
	if extra&2 != 0 {
		for _, h := range []v1beta1.HookType{v1beta1.ConfirmRolloutHook, v1beta1.PreRolloutHook, v1beta1.RolloutHook, v1beta1.RollbackHook,
			v1beta1.ConfirmTrafficIncreaseHook, v1beta1.ConfirmPromotionHook, v1beta1.PostRolloutHook} {
			a.Webhooks = append(a.Webhooks, v1beta1.CanaryWebhook{Name: string(h), Type: h, URL: "http://x"})
		}
	}
	c.Spec.RevertOnDeletion = extra&32 != 0
	provider := mesh()
	if extra&12 == 12 {
		provider = noMesh()
	}
	provider.ReportsSettled = extra&16 != 0
	s.w = New(Options{Canary: c, Provider: provider, Template: "v1", Replicas: 1 + int32(shape>>6), Metrics: s.metrics, Hooks: s.hooks})
	return s
}

func (s *schedule) metrics(_ *World, template string) analysis.Verdict {
	switch {
	case s.failing[template]:
		return analysis.Verdict{Outcome: analysis.Fail, Message: "Halt podinfo.default advancement success rate 50.00% < 99%"}
	case s.noData:
		return analysis.Verdict{Outcome: analysis.Error, Message: "Prometheus query failed: connection refused", Error: true}
	}
	return analysis.Verdict{Outcome: analysis.Pass}
}

func (s *schedule) hooks(_ *World, t v1beta1.HookType, _ string) rollout.HookResult {
	if t == v1beta1.RollbackHook {
		return rollout.HookResult{Passed: s.abort}
	}
	return rollout.HookResult{Passed: !s.closed, Text: "no"}
}

func (s *schedule) event(b byte) {
	version := fmt.Sprintf("v%d", 1+b>>5%4)
	switch b % 16 {
	case 0, 1, 2:
		s.w.Ship(version)
	case 3:
		s.failing[version] = b&64 != 0
	case 4:
		s.w.Break(version, b&128 != 0)
	case 5:
		s.w.primary.faulty = b&128 != 0
	case 6:
		s.w.DriftRoutes(int32(b) % 101)
	case 7:
		s.w.KillAfter(1 + int(b>>4))
	case 8:
		s.w.FailAt(1 + int(b>>4))
	case 9:
		s.closed, s.abort, s.noData = b&16 != 0, b&32 != 0, b&64 != 0
	case 10:
		s.problem(b)
	case 11:
		s.w.Edit(func(spec *v1beta1.CanarySpec) { spec.Suspend = b&16 != 0; spec.SkipAnalysis = b&32 != 0 && b&64 != 0 })
	case 12:
		s.w.Edit(func(spec *v1beta1.CanarySpec) {
			if len(spec.Analysis.StepWeights) > 0 {
				spec.Analysis.StepWeights = []int32{int32(b) % 50, 20, 70}
			}
		})
	case 13:
		s.w.Lag(1 + int(b>>4))
	case 14:
		if b >= 192 {
			s.w.DeletePrimary()
		}
	case 15:
		s.deletion(b)
	}
	s.w.Run(time.Duration(1+b>>4) * time.Duration(1+b>>4) * time.Second)
}

// deletion deletes the Canary, or changes what is to happen when somebody does.
func (s *schedule) deletion(b byte) {
	if b >= 192 {
		s.w.Delete()
		return
	}
	s.w.Edit(func(spec *v1beta1.CanarySpec) { spec.RevertOnDeletion = b&32 != 0 })
}

func (s *schedule) problem(b byte) {
	s.w.SetProblem(nil)
	if b&16 != 0 {
		s.w.SetProblem(&rollout.Problem{Reason: rollout.ReasonReadFailed, Message: "etcdserver: leader changed", Unknown: true})
	}
}

// heal makes the cluster whole again, so that whatever is under way has to come to an end.
func (s *schedule) heal() {
	s.closed, s.abort, s.noData = false, false, false
	s.failing = map[string]bool{}
	s.w.primary.faulty = false
	s.w.SetProblem(nil)
	s.w.lag = 0
	s.w.killAfter, s.w.failAt = map[int]bool{}, map[int]bool{}
	s.w.Edit(func(spec *v1beta1.CanarySpec) { spec.Suspend = false })
	for _, v := range []string{"v1", "v2", "v3", "v4"} {
		s.w.Break(v, false)
	}
}

// play runs the schedule and returns what went wrong.
func play(bytes []byte) (*World, []string) {
	s := newSchedule(bytes)
	for i := 0; len(s.bytes) > 0 && i < 64; i++ {
		s.event(s.next())
	}
	s.heal()
	w := s.w
	if !w.Run(6 * time.Hour) {
		w.violate(6, "phase %s stage %q never ends", w.Status().Phase, w.Status().Rollout.Stage)
		return w, w.violations
	}
	if !w.Gone() {
		checkEnd(w)
		w.Delete()
		w.Run(6 * time.Hour)
	}
	checkGone(w)
	return w, w.violations
}

// checkGone demands that the deletion of a Canary ends, and leaves a target that serves.
func checkGone(w *World) {
	switch {
	case !w.Gone():
		w.violate(6, "the deletion hangs in phase %s stage %q", w.Status().Phase, w.Status().Rollout.Stage)
	case w.Status().Phase == v1beta1.CanaryPhaseTerminated && (w.target.available(w.now) == 0 || !w.free()):
		w.violate(1, "the target has %d ready pods at the end of the deletion, leads to the primary: %t", w.target.available(w.now), !w.free())
	}
}

func checkEnd(w *World) {
	st := w.Status()
	switch {
	case st.Rollout.Target.Fingerprint != w.target.template:
		w.violate(3, "revision %s was never looked at, the last one was %s", w.target.template, st.Rollout.Target.Fingerprint)
	case w.primary.available(w.now) == 0:
		w.violate(1, "the primary has no ready pod at the end")
	case st.Phase != v1beta1.CanaryPhaseFailed && w.primary.template != w.target.template:
		w.violate(7, "phase %s with %s on the primary and %s on the target", st.Phase, w.primary.template, w.target.template)
	}
	w.Pass()
	w.Pass()
	before := w.Writes()
	w.Pass()
	if w.Writes() != before || !w.wake.IsZero() && w.Status().Phase != v1beta1.CanaryPhaseInitialized {
		w.violate(7, "a settled canary wrote or planned to wake")
	}
}

// TestSchedules plays random schedules. SEEDS sets how many (default 10,000), SEED a single one.
func TestSchedules(t *testing.T) {
	first, n := uint64(0), uint64(10000)
	if s := os.Getenv("SEEDS"); s != "" {
		n, _ = strconv.ParseUint(s, 10, 64)
	}
	if s := os.Getenv("SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
		n = 1
	}
	if testing.Short() {
		n = min(n, 500)
	}
	var failures atomic.Int32
	var workers sync.WaitGroup
	each := uint64(runtime.GOMAXPROCS(0))
	for worker := range each {
		workers.Go(func() {
			for seed := first + worker; seed < first+n && failures.Load() < 3; seed += each {
				if w, bad := play(randomBytes(seed)); len(bad) > 0 {
					failures.Add(1)
					t.Errorf("SEED=%d: %s\n%s", seed, strings.Join(bad[:min(3, len(bad))], "\n"), strings.Join(w.Trace, "\n"))
				}
			}
		})
	}
	workers.Wait()
}

func randomBytes(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 7))
	bytes := make([]byte, 2+r.IntN(40))
	for i := range bytes {
		bytes[i] = byte(r.IntN(256))
	}
	return bytes
}

// FuzzSchedule is the same, led by coverage.
func FuzzSchedule(f *testing.F) {
	f.Add([]byte{0, 0, 32, 255, 7, 100})
	f.Add([]byte{1, 2, 64, 9, 240, 5, 16})
	f.Add([]byte{3, 31, 96, 6, 39, 200, 4})
	f.Fuzz(func(t *testing.T, bytes []byte) {
		if w, bad := play(bytes); len(bad) > 0 {
			t.Errorf("%s\n%s", strings.Join(bad, "\n"), strings.Join(w.Trace, "\n"))
		}
	})
}
