package simulate

import (
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
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

// schedule plays whatever the bytes say: the first choose the Canary and its provider, the others are events.
type schedule struct {
	source
	w *World
	// failing and closed are what metrics and hooks answer now.
	failing map[string]bool
	closed  bool
	abort   bool
	noData  bool
	down    bool
	// few is whether there are hardly any requests.
	few   bool
	nonce int
	// slow is how long answers may take.
	slow time.Duration
}

func newSchedule(spec, events []byte) *schedule {
	s := &schedule{source: source{events}, failing: map[string]bool{}}
	shape := shapeOf(&source{spec})
	s.w = New(Options{
		Canary: shape.canary, Provider: shape.provider, Template: "v1", Replicas: shape.replicas, Strategy: shape.strategy, Lag: shape.lag,
		Readings: s.readings, Hooks: s.hooks, Providers: s.providers, Delay: s.delay,
	})
	s.w.scaler.exists = shape.canary.Spec.AutoscalerRef != nil
	s.w.nonces = func() [2]string {
		s.nonce++
		return [2]string{fmt.Sprint("a", s.nonce), fmt.Sprint("b", s.nonce)}
	}
	return s
}

func (s *schedule) providers(*World) string {
	if s.down {
		return "connection refused"
	}
	return ""
}

func (s *schedule) readings(w *World, template string) []analysis.Reading {
	readings := shows(func(w *World, r *analysis.Reading) {
		r.Samples = new(int64(400))
		switch {
		case s.failing[template]:
			r.Value, r.Counts.Canary.Bad = 50, 200
		case s.noData:
			r.State, r.Cause = analysis.Failed, "connection refused"
		case s.few:
			*r.Samples, r.Counts.Canary.Total, r.Counts.Primary.Total = 3, 0, 7
		}
	})(w, template)
	return append(readings, s.shares(w))
}

// shares are those of the weight, and for half of the time as many again come by other ways.
func (s *schedule) shares(w *World) analysis.Reading {
	r, weight, foreign := analysis.Reading{Source: analysis.Shares, State: analysis.Value}, int64(w.canary.Status.CanaryWeight), int64(0)
	if w.Now()/(5*time.Minute)%2 == 1 {
		foreign = 400
	}
	switch {
	case s.noData:
		r.State, r.Cause = analysis.Failed, "connection refused"
	case !s.few:
		r.Counts.Canary.Total, r.Counts.Primary.Total = 4*weight+foreign, 4*(100-weight)
	}
	return r
}

func (s *schedule) hooks(_ *World, t v1beta1.HookType, _ string) rollout.HookResult {
	if t == v1beta1.RollbackHook {
		return rollout.HookResult{Passed: s.abort}
	}
	return rollout.HookResult{Passed: !s.closed, Text: "no"}
}

// delay is some part of the time that answers may take.
func (s *schedule) delay(*World, rollout.Need) time.Duration {
	return s.slow * time.Duration(s.below(9)) / 8
}

// event lets something happen, and then some time go by.
func (s *schedule) event() {
	version := fmt.Sprintf("v%d", 1+s.below(4))
	happens := []func(version string){
		s.ship, s.ship, s.ship, s.pods, s.pods, s.answers, s.answers, s.crash, s.crash, s.problem, s.edit, s.edit,
		s.somebody, s.somebody, s.refusal, s.deletion,
	}
	happens[s.below(len(happens))](version)
	// Most things happen within seconds; some take longer than a deadline.
	wait := 1 + s.below(16)
	s.w.Run(time.Duration(wait*wait) * time.Second)
	if s.below(16) == 15 {
		s.w.Run(20 * time.Minute)
	}
}

func (s *schedule) ship(version string) { s.w.Ship(version) }

// pods come and go.
func (s *schedule) pods(version string) {
	switch s.below(10) {
	case 0:
		s.w.Break(version, true)
	case 1:
		s.w.Break(version, false)
	case 2:
		s.w.primary.faulty = !s.w.primary.faulty
	case 3:
		s.w.target.lose(s.w.now.Add(time.Duration(s.below(200)) * time.Second))
	case 4:
		s.w.primary.lose(s.w.now.Add(time.Duration(s.below(200)) * time.Second))
	case 5:
		s.w.target.patient, s.w.primary.patient = s.bool(), s.bool()
	case 6:
		s.w.target.evict(1 + s.below(4))
	case 7:
		s.w.primary.evict(1 + s.below(4))
	case 8:
		// A node is lost on which pods of both were.
		s.w.target.evict(len(s.w.target.pods) / 2)
		s.w.primary.evict((len(s.w.primary.pods) + 1) / 2)
	case 9:
		s.w.scaler.idle = !s.w.scaler.idle
	}
}

// answers change what metrics, hooks and proxies say.
func (s *schedule) answers(version string) {
	switch s.below(11) {
	case 10:
		s.few = !s.few
	case 0:
		s.failing[version] = !s.failing[version]
	case 1:
		s.closed = !s.closed
	case 2:
		s.abort = !s.abort
	case 3:
		s.noData = !s.noData
	case 4:
		s.w.unsettled = !s.w.unsettled
	case 5:
		s.down = !s.down
	case 6:
		s.w.silent = !s.w.silent
	case 7:
		s.w.late = time.Duration(s.below(200)) * time.Second
	case 8, 9:
		s.slow = pick(&s.source, 0, time.Second, 20*time.Second, 5*time.Minute, time.Hour)
	}
}

// crash kills the process, fails a write, makes caches late or keeps the operator away.
func (s *schedule) crash(string) {
	switch s.below(5) {
	case 0:
		s.w.KillAfter(1 + s.below(16))
	case 1:
		s.w.FailAt(1 + s.below(16))
	case 2:
		s.w.Lag(1 + s.below(16))
	case 3:
		s.w.now = s.w.now.Add(time.Duration(s.below(30)) * time.Minute)
		s.w.settleCluster()
	case 4:
		s.w.Kill()
	}
}

// problem makes the cluster unreadable, or the spec wrong.
func (s *schedule) problem(string) {
	s.w.SetProblem(pick(&s.source, nil,
		&rollout.Problem{Reason: rollout.ReasonReadFailed, Message: "etcdserver: leader changed", Unknown: true},
		&rollout.Problem{Reason: rollout.ReasonInvalidSpec, Message: "spec.service.port: set the port"}))
}

// edit changes the Canary under way.
func (s *schedule) edit(string) {
	s.w.Edit(func(spec *v1beta1.CanarySpec) {
		switch s.below(8) {
		case 0:
			spec.Suspend = !spec.Suspend
		case 1:
			spec.SkipAnalysis = !spec.SkipAnalysis
		case 2:
			spec.RevertOnDeletion = !spec.RevertOnDeletion
		case 3:
			name := pick(&s.source, "", "other")
			if s.recorded() {
				spec.Service.Name = name
			}
		case 7:
			if a := spec.Analysis; a != nil && len(a.Match) == 0 {
				a.Match = []v1beta1.AnalysisMatch{{}}
			} else if a != nil {
				a.Match = nil
			}
		case 4, 5, 6:
			if spec.Analysis == nil {
				spec.Analysis = podinfo().Spec.Analysis
			}
			pick(&s.source, shapeStrategy, shapeAnalysis, shapeHooks, shapePolicy)(&s.source, spec.Analysis)
		}
	})
}

// recorded is whether the status says under which names things were made.
func (s *schedule) recorded() bool {
	r := s.w.Status().Rollout
	return r != nil && len(r.Routing) > 0
}

// ranUnknown is whether nobody knows what a primary would have to be made from again.
func (s *schedule) ranUnknown() bool {
	promoted := s.w.Status().Rollout.Promoted
	return promoted != nil && promoted.Fingerprint == "unknown"
}

// somebody else interferes.
func (s *schedule) somebody(string) {
	switch s.below(13) {
	case 0, 1:
		s.w.DriftRoutes(int32(s.below(101)))
	case 2:
		if s.recorded() && !s.ranUnknown() {
			s.w.DeletePrimary()
		}
	case 3:
		s.w.DeleteTarget()
	case 4:
		s.w.primary.scale(s.w.now, int32(s.below(4)))
	case 5:
		s.w.target.scale(s.w.now, int32(s.below(4)))
	case 6:
		// What was made under previous names is known by the status alone, and so is that there was a primary.
		if len(s.w.previous.routes)+len(s.w.previous.services) == 0 && s.w.primary.exists {
			s.w.LoseStatus()
		}
	case 7:
		s.w.apex = s.w.apex && !s.bool()
		s.w.backends = s.w.backends && !s.bool()
		s.w.trackZero()
	case 8:
		s.w.StripPrimary()
	case 9:
		s.w.EditPrimary("hotfix")
	case 10:
		s.w.Pause(!s.w.target.paused)
	case 11:
		s.w.Remake(fmt.Sprintf("v%d", 1+s.below(4)), pick(&s.source, "", "name"))
	case 12:
		s.w.Relabel(pick(&s.source, "", "name"))
	}
	s.w.settleCluster()
}

// refusal makes the API server refuse a kind of change, or take it again.
func (s *schedule) refusal(string) {
	refused := pick[rollout.Action](&s.source, nil, rollout.EnsurePrimary{}, rollout.EnsureRoutes{}, rollout.ScaleTargetUp{},
		rollout.ScaleTargetToZero{}, rollout.EnsureApexService{})
	s.w.refuse = nil
	if refused != nil {
		s.w.refuse = func(a rollout.Action) bool { return reflect.TypeOf(a) == reflect.TypeOf(refused) }
	}
}

// deletion deletes the Canary at times.
func (s *schedule) deletion(string) {
	if s.below(4) == 3 {
		s.w.Delete()
	}
}

// heal makes the cluster whole again, so that whatever is under way has to come to an end.
func (s *schedule) heal() {
	s.closed, s.abort, s.noData, s.down, s.few, s.slow = false, false, false, false, false, 0
	s.failing = map[string]bool{}
	s.w.primary.faulty, s.w.unsettled, s.w.refuse = false, false, nil
	s.w.SetProblem(nil)
	s.w.lag = 0
	s.w.killAfter, s.w.failAt = map[int]bool{}, map[int]bool{}
	s.w.Edit(func(spec *v1beta1.CanarySpec) {
		spec.Suspend = false
		if a := spec.Analysis; a != nil && a.Iterations == 0 {
			a.StepWeight, a.StepWeights = 30, nil
		}
	})
	if !s.w.target.exists && !s.w.Gone() {
		s.w.Ship("v4")
	}
	s.w.Pause(false)
	if s.w.primary.exists && !s.w.opts.Provider.Routes {
		s.w.Relabel(s.w.primary.selector)
	}
	if s.w.primary.exists {
		s.w.primary.scale(s.w.now, max(1, s.w.primary.replicas))
	}
	for _, v := range []string{"v1", "v2", "v3", "v4", "hotfix"} {
		s.w.Break(v, false)
	}
}

// play runs the schedule and returns what went wrong.
func play(spec, events []byte) (*World, []string) {
	s := newSchedule(spec, events)
	for i := 0; len(s.bytes) > 0 && i < 64 && !s.w.Gone(); i++ {
		s.event()
	}
	w := s.w
	// Peace takes longer to play than all that comes before it.
	if !w.Gone() && len(spec) > 0 && spec[len(spec)-1]%4 == 0 {
		watch(w)
	}
	s.heal()
	if w.spins() {
		return w, w.violations
	}
	if !w.Run(1000 * time.Hour) {
		w.violate(6, "phase %s stage %q never ends", w.Status().Phase, w.Status().Rollout.Stage)
		return w, w.violations
	}
	if !w.Gone() {
		checkEnd(w)
		w.Delete()
		w.Run(100 * time.Hour)
	}
	checkGone(w)
	return w, w.violations
}

// checkGone demands that the deletion of a Canary ends, and leaves a target that serves.
func checkGone(w *World) {
	switch {
	case !w.Gone():
		w.violate(6, "the deletion hangs in phase %s stage %q", w.Status().Phase, w.Status().Rollout.Stage)
	case w.Status().Phase == v1beta1.CanaryPhaseTerminated && w.target.exists && w.taken && (w.target.available(w.now) == 0 && !w.atZero(&w.target) || !w.free()):
		w.violate(1, "the target has %d ready pods at the end of the deletion, leads to the primary: %t", w.target.available(w.now), !w.free())
	}
}

func checkEnd(w *World) {
	st := w.Status()
	switch {
	case st.Rollout.Target.Fingerprint != w.target.template:
		w.violate(3, "revision %s was never looked at, the last one was %s", w.target.template, st.Rollout.Target.Fingerprint)
	case w.primary.available(w.now) == 0 && !w.atZero(&w.primary):
		w.violate(1, "the primary has no ready pod at the end")
	case st.Phase != v1beta1.CanaryPhaseFailed && w.primary.template != w.target.template && !w.tellsOfTheEdit():
		w.violate(7, "phase %s with %s on the primary and %s on the target", st.Phase, w.primary.template, w.target.template)
	}
	if w.backendsBy != w.selectors() || w.apexBy != w.selectedByApex() {
		w.violate(1, "Services select %+v and %q instead of %+v", w.backendsBy, w.apexBy, w.selectors())
	}
	w.Pass()
	w.Pass()
	before := w.Writes()
	w.Pass()
	if w.Writes() != before || !w.wake.IsZero() && w.Status().Phase != v1beta1.CanaryPhaseInitialized {
		w.violate(7, "a settled canary wrote or planned to wake")
	}
}

// tellsOfTheEdit is whether the primary is what somebody made of it, and the status says so, unless nobody knows any more.
func (w *World) tellsOfTheEdit() bool {
	return w.primary.template == "hotfix" &&
		(w.primary.written == "" || condition(w, v1beta1.HealthyType) == string(rollout.ReasonPrimaryChanged))
}

// TestSchedules plays random schedules. SEEDS sets how many (default 10,000) and FIRST from which on, SEED a single one.
func TestSchedules(t *testing.T) {
	first, n := uint64(0), uint64(10000)
	if s := os.Getenv("SEEDS"); s != "" {
		n, _ = strconv.ParseUint(s, 10, 64)
	}
	if s := os.Getenv("FIRST"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
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
				r := rand.New(rand.NewPCG(seed, 7))
				spec, events := randomBytes(r, shapeBytes), randomBytes(r, r.IntN(120))
				if w, bad := play(append(spec, randomBytes(r, 16)...), events); len(bad) > 0 {
					failures.Add(1)
					t.Errorf("SEED=%d: %s\n%s", seed, strings.Join(bad[:min(3, len(bad))], "\n"), strings.Join(w.Trace, "\n"))
				}
			}
		})
	}
	workers.Wait()
}

func randomBytes(r *rand.Rand, n int) []byte {
	bytes := make([]byte, n)
	for i := range bytes {
		bytes[i] = byte(r.IntN(256))
	}
	return bytes
}

// FuzzSpec is the same, led by coverage: the first bytes shape the Canary, the second what happens to it.
func FuzzSpec(f *testing.F) {
	for _, seed := range corpus() {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, spec, events []byte) {
		if w, bad := play(spec, events); len(bad) > 0 {
			t.Errorf("%s\n%s", strings.Join(bad, "\n"), strings.Join(w.Trace, "\n"))
		}
	})
}

// corpus has one Canary of each strategy and provider, each with a dull and with an eventful life.
func corpus() [][2][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	var seeds [][2][]byte
	for strategy := range byte(5) {
		for range 4 {
			spec := append([]byte{strategy}, randomBytes(r, 31)...)
			seeds = append(seeds, [2][]byte{spec, {1, 0, 15, 15}}, [2][]byte{spec, randomBytes(r, 60)})
		}
	}
	return seeds
}
