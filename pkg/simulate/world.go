// Package simulate plays rollouts in a toy cluster and in virtual time, around the real rules. It takes the place of the
// controller: it observes, decides, writes the status, applies and publishes, and can be killed between any two of these.
package simulate

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// Options describe a cluster before anything happens.
type Options struct {
	// Canary is the object under test. Its targetRef names the Deployment.
	Canary *v1beta1.Canary
	// Provider says what the routing can do.
	Provider rollout.ProviderFact
	// Template is what the target runs at first, Replicas how often.
	Template string
	Replicas int32
	// Strategy is how the target and, since it is copied, the primary replace their pods.
	Strategy Strategy
	// Lag is how late it is reported that the pods went of a target that the operator scaled to zero.
	Lag time.Duration
	// Behaviors say how pods behave, by template. Others are ready after one second.
	Behaviors map[string]Behavior
	// Metrics judges the target; nil passes always. It is called with the template under analysis.
	Metrics func(w *World, template string) analysis.Verdict
	// Readings are what the metrics of the target show, judged as the operator does. They take the place of Metrics.
	Readings func(w *World, template string) []analysis.Reading
	// Hooks answers webhooks; nil passes always.
	Hooks func(w *World, t v1beta1.HookType, name string) rollout.HookResult
	// Providers answers whether metric providers are there; nil is yes.
	Providers func(w *World) string
	// Delay is how long the answer to a question takes; nil is no time.
	Delay func(w *World, n rollout.Need) time.Duration
	// Adapt changes what the rules see, as for workloads of another kind; nil changes nothing.
	Adapt func(f *rollout.Facts)
}

// Event is something that was told to users.
type Event struct {
	At      time.Duration
	Type    string
	Message string
	Alert   string
}

// World is a cluster with one Canary in it.
type World struct {
	opts  Options
	start time.Time
	now   time.Time

	canary  *v1beta1.Canary
	target  deployment
	primary deployment

	backends bool
	apex     bool
	// backendsBy and apexBy are what the Services select, the latter with the side.
	backendsBy selectors
	apexBy     string
	// routed is what the routing objects say.
	routed rollout.TrafficState
	routes bool
	// unsettled makes the gateway report that it does not follow the routing objects, silent makes it report nothing. Late is how
	// long it takes to report that it does; until then its report is about what was routed before.
	unsettled, silent bool
	late              time.Duration
	// routedAt is when the routing objects were written last.
	routedAt time.Time
	// previous are the Services and routes under previous names.
	previous previous
	// scaler scales target and primary, if there is one.
	scaler autoscaler
	// zeroSince is since when neither the apex Service nor a route leads to the target.
	zeroSince time.Time
	// primarySince is since when the operator has seen the Service of the primary lead to a ready pod.
	primarySince time.Time
	// allSince is since when all requests are led to the target.
	allSince time.Time
	// served is whether anything led to the pods that the target has now.
	served bool
	// freeSince is since when neither leads to the primary any more, gone is set when the Canary has vanished.
	freeSince time.Time
	gone      bool

	problem    *rollout.Problem
	applyError string
	delivered  int64
	// sight is what the process keeps in mind.
	sight rollout.Sight
	seen  map[int64]bool

	// writes counts status writes and actions; a kill is due after the number in killAfter, an error at failAt.
	writes    int
	killAfter map[int]bool
	failAt    map[int]bool

	// lag is for how many passes the caches don't hear of writes; last is what they show meanwhile.
	lag  int
	last rollout.Facts

	// stored are the copies of promoted revisions, with the replicas they ran. A role for another operator forbids them.
	stored    map[string]int32
	forbidden bool

	// judged counts passing judgements by template, for the check that nothing is promoted without one.
	judged map[string]int

	// refuse makes the API server reject an action; nil rejects none.
	refuse func(rollout.Action) bool
	// nonces are the random values of the next pass; nil makes none.
	nonces func() [2]string
	// questions are those that the rules rest on, answered or not.
	questions []*question
	// asked are the questions to webhooks, posted counts the calls of webhooks that decide nothing.
	asked  []rollout.NeedHooks
	posted int
	// statuses counts the writes of the status, passes the passes, calls the writes that were tried: those of the status, and the
	// actions, each of which reads what it writes.
	statuses, passes, calls int
	// failures counts the passes in a row that failed.
	failures int

	// taken is whether clients were ever led to the primary.
	taken bool
	// loops counts the passes at loopAt.
	loopAt time.Time
	loops  int
	// untold is set from the start of a rollout until an alert tells how it ended; alerted is the last alert that was looked at.
	untold  bool
	alerted int64

	Events []Event
	// Trace is the readable record: events and changes of phase and weight.
	Trace      []string
	violations []string
	wake       time.Time
	lastRule   string
}

// Settings are those of every simulation.
func Settings() rollout.Settings {
	return rollout.Settings{MinInterval: 10 * time.Second, PropagationDelay: 3 * time.Second}
}

// New returns a cluster in which the target runs and serves, and the Canary has just been created.
func New(o Options) *World {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := &World{
		opts: o, start: start, now: start, canary: o.Canary.DeepCopy(),
		seen: map[int64]bool{}, killAfter: map[int]bool{}, failAt: map[int]bool{}, judged: map[string]int{}, stored: map[string]int32{},
	}
	name := o.Canary.Spec.TargetRef.Name
	w.canary.UID, w.canary.CreationTimestamp = "uid-canary", metav1.NewTime(start)
	w.target = deployment{name: name, exists: true, template: o.Template, generation: 1, counter: 1, replicas: o.Replicas, progressedAt: start,
		strategy: o.Strategy, lag: o.Lag}
	for range o.Replicas {
		w.target.pods = append(w.target.pods, pod{template: o.Template, readyAt: start})
	}
	w.primary = deployment{name: name + "-primary"}
	return w
}

func (w *World) behaviors() map[string]Behavior {
	all := map[string]Behavior{w.target.template: {Startup: time.Second}, w.primary.template: {Startup: time.Second}}
	for k, v := range w.opts.Behaviors {
		all[k] = v
	}
	return all
}

func (w *World) deadline() time.Duration {
	return time.Duration(w.canary.GetProgressDeadlineSeconds()) * time.Second
}

// Now is the virtual time since the start.
func (w *World) Now() time.Duration { return w.now.Sub(w.start) }

// Status is the stored status.
func (w *World) Status() *v1beta1.CanaryStatus { return &w.canary.Status }

// PrimaryTemplate is what the primary was told to run, PrimaryReady how many of its pods serve.
func (w *World) PrimaryTemplate() string { return w.primary.template }

// Ship changes the template of the target, or creates it with that template.
func (w *World) Ship(template string) {
	w.note("ship %s", template)
	if !w.target.exists {
		w.target.exists, w.target.replicas = true, w.opts.Replicas
	}
	w.target.setTemplate(w.now, template)
	w.settleCluster()
}

// selectors are the labels that the Services of both sides select their pods by.
type selectors struct{ canary, primary string }

// selectors are what the Services have to select.
func (w *World) selectors() selectors {
	s := selectors{canary: w.target.selector, primary: w.target.selector}
	if w.primary.exists {
		s.primary = w.primary.selector
	}
	return s
}

// selectedByApex is what the Service that clients use has to select.
func (w *World) selectedByApex() string {
	if primary := w.observedPrimary(); rollout.LeadsApexToCanary(w.canary, &primary) {
		return "canary " + w.target.selector
	}
	return w.primarySide()
}

func (w *World) primarySide() string { return "primary " + w.selectors().primary }

// ready is whether the Service of a side leads to ready pods.
func (w *World) ready(d *deployment) bool {
	by := w.backendsBy.canary
	if d == &w.primary {
		by = w.backendsBy.primary
	}
	return w.backends && d.available(w.now) > 0 && d.selector == by
}

// Relabel changes what the pods of the target are to be selected by: the operator got other -selector-labels.
func (w *World) Relabel(selector string) {
	if w.target.exists {
		w.note("pods are selected by label %q", selector)
		w.target.selector = selector
	}
}

// Remake deletes the target and creates it again at once, with another selector.
func (w *World) Remake(template, selector string) {
	w.DeleteTarget()
	w.target.selector = selector
	w.note("made anew with label %q", selector)
	w.Ship(template)
}

// Edit changes the Canary itself.
func (w *World) Edit(change func(*v1beta1.CanarySpec)) {
	before := w.names()
	change(&w.canary.Spec)
	w.rename(before)
	w.canary.Generation++
}

// SetProblem makes observation report p until it is called with nil.
func (w *World) SetProblem(p *rollout.Problem) { w.problem = p }

// Break makes the pods of a template fail from now on, or work again.
func (w *World) Break(template string, broken bool) {
	if w.opts.Behaviors == nil {
		w.opts.Behaviors = map[string]Behavior{}
	}
	w.opts.Behaviors[template] = Behavior{Startup: time.Second, Broken: broken}
	for _, d := range []*deployment{&w.target, &w.primary} {
		for i := range d.pods {
			if d.pods[i].template != template {
				continue
			}
			d.pods[i].never = broken
			if !broken {
				d.pods[i].readyAt = w.now.Add(time.Second)
			}
		}
		d.progressedAt = w.now
	}
}

// DriftRoutes makes somebody else overwrite the routes.
func (w *World) DriftRoutes(weight int32) {
	if w.routes {
		w.note("somebody sets the canary weight to %d", weight)
		w.routed.CanaryWeight = weight
		w.trackZero()
	}
}

// KillAfter kills the process after its nth write, counted from now. A fresh one takes over.
func (w *World) KillAfter(n int) { w.killAfter[w.writes+n] = true }

// Kill kills the process between two passes, with all that it has asked. A fresh one takes over.
func (w *World) Kill() { w.delivered, w.applyError, w.questions, w.sight = 0, "", nil, rollout.Sight{} }

// FailAt makes the nth write fail, counted from now.
func (w *World) FailAt(n int) { w.failAt[w.writes+n] = true }

// DeletePrimary removes the primary and its pods.
func (w *World) DeletePrimary() {
	if w.primary.exists {
		w.note("somebody deletes the primary")
		w.primary = deployment{name: w.primary.name, faulty: w.primary.faulty}
	}
}

// EditPrimary makes somebody else change the template of the primary.
func (w *World) EditPrimary(template string) {
	if w.primary.exists {
		w.note("somebody changes the primary to %s", template)
		w.primary.setTemplate(w.now, template)
		w.settleCluster()
	}
}

// StripPrimary takes the annotations off the primary, as a tool does that replaces the whole object.
func (w *World) StripPrimary() {
	if w.primary.exists {
		w.note("somebody takes the annotations off the primary")
		w.primary.copyOf, w.primary.written = "", ""
	}
}

// DeleteTarget removes the target and its pods.
func (w *World) DeleteTarget() {
	if w.target.exists {
		w.note("somebody deletes the target")
		w.target = deployment{name: w.target.name, faulty: w.target.faulty, incarnation: w.target.incarnation + 1,
			selector: w.target.selector, lag: w.target.lag}
	}
}

// LoseStatus empties the status, as a restore from a backup does.
func (w *World) LoseStatus() {
	w.note("somebody empties the status")
	w.canary.Status = v1beta1.CanaryStatus{}
	w.seen, w.alerted, w.untold = map[int64]bool{}, 0, false
}

// Lag makes the caches miss what happens in the next n passes, as long as no time goes by.
func (w *World) Lag(n int) { w.lag = n }

// Writes is how many writes there have been.
func (w *World) Writes() int { return w.writes }

// Violations lists the broken invariants.
func (w *World) Violations() []string { return w.violations }

func (w *World) note(format string, args ...any) {
	w.Trace = append(w.Trace, fmt.Sprintf("%6s  ", w.Now())+fmt.Sprintf(format, args...))
}

func (w *World) violate(invariant int, format string, args ...any) {
	w.violations = append(w.violations, fmt.Sprintf("invariant %d at %s (rule %s): ", invariant, w.Now(), w.lastRule)+fmt.Sprintf(format, args...))
}

func (w *World) settleCluster() {
	w.autoscale()
	w.target.reconcile(w.now, w.behaviors())
	w.primary.reconcile(w.now, w.behaviors())
}

// trackZero keeps the time since when nothing leads to the target.
func (w *World) trackZero() {
	w.trackPrevious()
	leads := !w.apex || strings.HasPrefix(w.apexBy, "canary") || w.previous.lead() || w.opts.Provider.Routes && (!w.routes || w.routed.SendsToCanary())
	if all := w.routes && w.routed == (rollout.TrafficState{CanaryWeight: 100}); !all {
		w.allSince = time.Time{}
	} else if w.allSince.IsZero() {
		w.allSince = w.now
	}
	w.served = (w.served || leads) && w.target.replicas > 0
	if leads {
		w.zeroSince = time.Time{}
	} else if w.zeroSince.IsZero() {
		w.zeroSince = w.now
	}
}

// maxRun is how many passes a Run may take. A closed gate that is asked every ten seconds for a day needs half as many; a loop
// that goes on without any time going by is found by maxPasses.
const maxRun = 100_000

// Run passes until the Canary rests, at most for the given virtual time. It reports whether it came to rest.
func (w *World) Run(limit time.Duration) bool {
	end := w.now.Add(limit)
	for range maxRun {
		again := w.Pass()
		if w.spins() {
			return false
		}
		if again {
			continue
		}
		next := w.nextEvent()
		if next.IsZero() {
			return w.atRest()
		}
		if next.After(end) {
			w.now = end
			return w.atRest()
		}
		w.now = next
		w.settleCluster()
	}
	w.violate(6, "no rest after %d passes", maxRun)
	return false
}

func (w *World) atRest() bool {
	phase := w.canary.Status.Phase
	if w.gone || w.canary.DeletionTimestamp != nil {
		return w.gone
	}
	return phase == v1beta1.CanaryPhaseInitialized || phase == v1beta1.CanaryPhaseSucceeded || phase == v1beta1.CanaryPhaseFailed
}

func (w *World) nextEvent() time.Time {
	next := w.wake
	changes := []time.Time{
		w.target.nextChange(w.now, w.deadline()), w.primary.nextChange(w.now, w.deadline()), w.nextReport(), w.nextPoll(),
	}
	for _, q := range w.questions {
		if q.answer == nil {
			changes = append(changes, q.due)
		}
	}
	for _, t := range changes {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}

// nextReport is when the gateway reports on the routes as they are. Zero means never, or that it has.
func (w *World) nextReport() time.Time {
	if at := w.routedAt.Add(w.late); w.routes && at.After(w.now) {
		return at
	}
	return time.Time{}
}
