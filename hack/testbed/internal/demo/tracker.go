package demo

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"flagger.app/flagger/hack/testbed/internal/load"
)

// view is what was last seen of the Canary.
type view struct {
	phase  string
	weight int64
	// health is the message of the condition Healthy while that is False.
	health string
	// events are the messages since the current run began.
	events []notice
	// phases are those since the current run began.
	phases []phaseSpan
}

// notice is an event of the operator.
type notice struct {
	at      time.Time
	message string
}

// find returns the first notice with the prefix.
func (v view) find(prefix string) (notice, bool) {
	for _, n := range v.events {
		if strings.HasPrefix(n.message, prefix) {
			return n, true
		}
	}
	return notice{}, false
}

// phaseSpan is the time the Canary was in a phase; to is zero for the last one.
type phaseSpan struct {
	run, phase string
	from, to   time.Time
}

// weightSpan is a time in which one weight was wanted, with what the requests
// of that time met.
type weightSpan struct {
	run      string
	wanted   int64
	from, to time.Time
	window   load.Window
	measured float64
}

// deviation is the distance of measured from wanted, in points; infinite if
// nobody answered.
func (s weightSpan) deviation() float64 {
	if math.IsNaN(s.measured) {
		return math.Inf(1)
	}
	return math.Abs(100*s.measured - float64(s.wanted))
}

// measurer tells what became of the requests of a time.
type measurer interface {
	Window(from, to time.Time) load.Window
}

// tracker watches the Canary and the events about it, prints each change as
// it comes and measures each weight when it ends.
type tracker struct {
	clock clock.PassiveClock
	out   *printer
	load  measurer

	mu      sync.Mutex
	changed chan struct{} // Closed and replaced at each change.
	now     view
	run     string
	waits   string // What the last event waits for, if it does.
	// measuring says that the gateway's route follows the wanted weight.
	measuring  bool
	weightFrom time.Time
	weights    []weightSpan
	allPhases  []phaseSpan
}

func newTracker(clk clock.PassiveClock, out *printer, m measurer) *tracker {
	return &tracker{clock: clk, out: out, load: m, changed: make(chan struct{})}
}

// start watches until ctx ends; it returns when both watches stand.
func (t *tracker) start(ctx context.Context, c *clusterClient) error {
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(c.dynamic, 0, namespace, nil)
	for resource, observe := range map[schema.GroupVersionResource]func(*unstructured.Unstructured){
		{Group: "flagger.app", Version: "v1beta1", Resource: "canaries"}: t.observeCanary,
		{Version: "v1", Resource: "events"}:                              t.observeEvent,
	} {
		handle := func(object any) {
			if o, ok := object.(*unstructured.Unstructured); ok {
				observe(o)
			}
		}
		_, err := factory.ForResource(resource).Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    handle,
			UpdateFunc: func(_, object any) { handle(object) },
		})
		if err != nil {
			return fmt.Errorf("watch %s: %w", resource.Resource, err)
		}
	}
	factory.Start(ctx.Done())
	for resource, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("watch %s: %w", resource.Resource, context.Cause(ctx))
		}
	}
	return nil
}

// observeCanary takes in the Canary's status.
func (t *tracker) observeCanary(o *unstructured.Unstructured) {
	phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
	weight, _, _ := unstructured.NestedInt64(o.Object, "status", "canaryWeight")
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Now()
	t.now.health = unhealthy(o)
	if phase != t.now.phase {
		t.endPhase(now)
		t.now.phase = phase
		t.allPhases = append(t.allPhases, phaseSpan{run: t.run, phase: phase, from: now})
		t.out.setPhase(phase)
	}
	if weight != t.now.weight {
		t.endWeight(now)
		t.now.weight, t.weightFrom = weight, now
	}
	t.wake()
}

func (t *tracker) endPhase(now time.Time) {
	if n := len(t.allPhases); n > 0 {
		t.allPhases[n-1].to = now
	}
}

// unhealthy returns the message of the condition Healthy if it is False.
func unhealthy(o *unstructured.Unstructured) string {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == "Healthy" && m["status"] == "False" {
			return fmt.Sprint(m["message"])
		}
	}
	return ""
}

// observeEvent takes in an event about the Canary.
func (t *tracker) observeEvent(o *unstructured.Unstructured) {
	kind, _, _ := unstructured.NestedString(o.Object, "involvedObject", "kind")
	message, _, _ := unstructured.NestedString(o.Object, "message")
	if kind != "Canary" || message == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	// Of a row of events that all wait for one rollout the first is enough.
	waits, _, waiting := strings.Cut(message, "waiting for rollout to finish")
	if !waiting || waits != t.waits {
		t.out.step("%s", message)
	}
	t.waits = ""
	if waiting {
		t.waits = waits
	}
	t.now.events = append(t.now.events, notice{at: t.clock.Now(), message: message})
	t.wake()
}

func (t *tracker) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// begin starts the run of a version; what was seen before is not in the view
// any more. It ends the measurement of the weight so far.
func (t *tracker) begin(run string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Now()
	t.endWeight(now)
	t.weightFrom = now
	t.run, t.now.events = run, nil
}

// measure starts the measurement of weights.
func (t *tracker) measure() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.measuring, t.weightFrom = true, t.clock.Now()
}

// settle is how long a weight takes from the Canary's status to the gateway;
// the requests of this time are not measured. A few 100 ms are usual.
const settle = time.Second

// shortest is the shortest time that is measured.
const shortest = 2 * time.Second

// endWeight measures the weight that was wanted until now.
func (t *tracker) endWeight(now time.Time) {
	from := t.weightFrom.Add(settle)
	if !t.measuring || now.Sub(from) < shortest {
		return
	}
	w := t.load.Window(from, now)
	s := weightSpan{run: t.run, wanted: t.now.weight, from: t.weightFrom, to: now, window: w, measured: w.Share(isCanaryPod)}
	t.weights = append(t.weights, s)
	t.out.step("  wanted %d %%, measured %s of %s; success %s, P99 %s",
		s.wanted, percent(s.measured), thousands(w.Sent), percent(w.Success()), milliseconds(w.Latency.P99))
}

// isCanaryPod tells the pods of the target from those of the primary.
func isCanaryPod(pod string) bool { return !strings.HasPrefix(pod, appName+"-primary-") }

// wait returns when done accepts what was seen. It gives up after the timeout
// with an error that says what was waited for and what was seen instead.
func (t *tracker) wait(ctx context.Context, clk clock.Clock, timeout time.Duration, what string, done func(view) (bool, error)) error {
	deadline := clk.NewTimer(timeout)
	defer deadline.Stop()
	for {
		t.mu.Lock()
		seen, changed := t.now, t.changed
		seen.phases = t.phasesOf(t.run)
		t.mu.Unlock()
		if ok, err := done(seen); ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline.C():
			return fmt.Errorf("waited %s for %s; %s", timeout, what, seen.describe())
		}
	}
}

func (v view) describe() string {
	text := fmt.Sprintf("the Canary is in phase %q with canary weight %d", v.phase, v.weight)
	if v.health != "" {
		text += ": " + v.health
	}
	return text
}

// phasesOf returns the phases that began in the run.
func (t *tracker) phasesOf(run string) []phaseSpan {
	var phases []phaseSpan
	for _, p := range t.allPhases {
		if p.run == run {
			phases = append(phases, p)
		}
	}
	return phases
}

// finish ends all measurements and returns them.
func (t *tracker) finish() ([]weightSpan, []phaseSpan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Now()
	t.endWeight(now)
	t.measuring = false
	t.endPhase(now)
	return t.weights, t.allPhases
}
