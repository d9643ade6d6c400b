package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Adopted is a provider that shifts weights in a route of a user's, which spec.routeRef names.
type Adopted struct {
	Provider router.Provider
	// Kind is that of the route.
	Kind string
	// Rules is the field that holds its rules, Backends that of a rule that holds its backends.
	Rules, Backends string
	// Backend builds one that leads to a Service. A negative weight is left out.
	Backend func(service string, weight int64) map[string]any
	// Spec is that of a route without rules.
	Spec map[string]any
	// Filter are fields of a rule that are none of ours.
	Filter map[string]any
	// CRDs is where the schema of the route is.
	CRDs *CRDs
}

// RunAdopted runs what has to hold for a route of a user's: it is never made and never deleted, nothing but the weights of our
// backends changes in it, and these come back.
func RunAdopted(t *testing.T, c Adopted) {
	if s := serverFor(t); s != nil {
		s.serve(t, c.CRDs, c.Provider)
		c.runAll(t, s, nil)
		return
	}
	for _, schemas := range []bool{false, true} {
		t.Run(fmt.Sprintf("RealCRDs=%t", schemas), func(t *testing.T) {
			var loaded Schemas
			if schemas {
				loaded = LoadSchemas(t, *c.CRDs)
			}
			c.runAll(t, nil, loaded)
		})
	}
}

func (c *Adopted) runAll(t *testing.T, s *server, schemas Schemas) {
	for name, run := range map[string]func(*adoptedWorld){
		"EachWeight": (*adoptedWorld).testEachWeight, "SeveralRules": (*adoptedWorld).testSeveralRules,
		"Shares": (*adoptedWorld).testShares, "Edits": (*adoptedWorld).testEdits, "TwoCanaries": (*adoptedWorld).testTwoCanaries,
		"Crash": (*adoptedWorld).testCrash, "Deletion": (*adoptedWorld).testDeletion, "Faults": (*adoptedWorld).testFaults,
		"Conflict": (*adoptedWorld).testConflict, "GivenBack": (*adoptedWorld).testGivenBack, "Left": (*adoptedWorld).testLeft,
	} {
		t.Run(name, func(t *testing.T) { run(newAdoptedWorld(t, c, s, schemas)) })
	}
}

// adoptedWorld is a route of a user's, and a Canary that names it.
type adoptedWorld struct {
	*world
	a *Adopted
}

func newAdoptedWorld(t *testing.T, a *Adopted, s *server, schemas Schemas) *adoptedWorld {
	c := &Case{server: s, Provider: a.Provider, Shape: func(c *v1beta1.Canary) {
		c.Spec.RouteRef = &v1beta1.LocalObjectReference{Kind: a.Kind, Name: "edge"}
	}}
	w := newWorld(t, c, schemas)
	c.Provider = router.For(a.Provider, w.canary)
	return &adoptedWorld{world: w, a: a}
}

// rule has these backends, two for each Service and its weight.
func (w *adoptedWorld) rule(backends ...any) map[string]any {
	rule := map[string]any{}
	for field, value := range w.a.Filter {
		rule[field] = value
	}
	var list []any
	for i := 0; i < len(backends); i += 2 {
		list = append(list, w.a.Backend(backends[i].(string), int64(backends[i+1].(int))))
	}
	rule[w.a.Backends] = list
	return rule
}

func (w *adoptedWorld) route() router.Ref {
	ref := w.c.Provider.Resources()[0]
	ref.Namespace, ref.Name = w.canary.Namespace, "edge"
	return ref
}

// start puts the route of the user into the store.
func (w *adoptedWorld) start(rules ...map[string]any) {
	w.Helper()
	list := make([]any, len(rules))
	for i := range rules {
		list[i] = rules[i]
	}
	spec := map[string]any{w.a.Rules: list}
	for field, value := range w.a.Spec {
		spec[field] = value
	}
	fields, err := router.Fields(spec)
	if err != nil {
		w.Fatal(err)
	}
	o := router.NewObject(w.route(), map[string]string{"team": "edge"}, map[string]string{"note": "ours"}, fields)
	w.setForeign(o)
	w.put(w.route(), o)
}

func (w *adoptedWorld) rules(o *unstructured.Unstructured) []any {
	w.Helper()
	list, _, err := unstructured.NestedSlice(o.Object, "spec", w.a.Rules)
	if err != nil {
		w.Fatal(err)
	}
	return list
}

// split lists the weights of a rule.
func (w *adoptedWorld) split(rule int) string {
	w.Helper()
	text := ""
	for _, item := range w.rules(w.get(w.route()))[rule].(map[string]any)[w.a.Backends].([]any) {
		text += fmt.Sprint(" ", item.(map[string]any)["weight"])
	}
	return text[1:]
}

// bare is the JSON of the route but for weights, and for what a write changes.
func (w *adoptedWorld) bare() string {
	w.Helper()
	o := w.get(w.route())
	rules := w.rules(o)
	for _, rule := range rules {
		for _, item := range rule.(map[string]any)[w.a.Backends].([]any) {
			delete(item.(map[string]any), "weight")
		}
	}
	if err := unstructured.SetNestedSlice(o.Object, rules, "spec", w.a.Rules); err != nil {
		w.Fatal(err)
	}
	unstructured.RemoveNestedField(o.Object, "metadata", "annotations", router.OriginalAnnotation)
	o.SetResourceVersion("")
	o.SetGeneration(0)
	raw, err := json.Marshal(o.Object)
	if err != nil {
		w.Fatal(err)
	}
	return string(raw)
}

// unchanged compares the route with what it was, but for its weights.
func (w *adoptedWorld) unchanged(before string) {
	w.Helper()
	if diff := cmp.Diff(before, w.bare()); diff != "" {
		w.Errorf("more than weights has changed (-want +got):\n%s", diff)
	}
}

func (w *adoptedWorld) wants(splits ...string) {
	w.Helper()
	for i, want := range splits {
		if got := w.split(i); got != want {
			w.Errorf("rule %d has the weights %s, want %s", i, got, want)
		}
	}
}

func (w *adoptedWorld) testEachWeight() {
	w.start(w.rule("docs", 100), w.rule("podinfo-primary", 100, "podinfo-canary", 0))
	before := w.bare()
	if writes := w.apply(router.Traffic{Primary: 100}); len(writes) > 0 {
		w.Errorf("writes %v of a route that is as wanted", writes)
	}
	for _, weight := range w.weights()[1:] {
		t := router.Traffic{Primary: 100 - weight, Canary: weight}
		if writes := w.apply(t); len(writes) != 1 {
			w.Errorf("writes %v, want one", writes)
		}
		w.expect(t)
		w.wants("100", fmt.Sprint(t.Primary, " ", t.Canary))
		w.unchanged(before)
	}
	if owners := w.get(w.route()).GetOwnerReferences(); len(owners) > 0 {
		w.Errorf("owners %v, want none", owners)
	}
}

// testSeveralRules: every rule that has both sides is shifted, and one that has neither, or one of them, is none of ours.
func (w *adoptedWorld) testSeveralRules() {
	w.start(w.rule("podinfo-canary", 0, "podinfo-primary", 100), w.rule("podinfo", 100), w.rule("podinfo-primary", 100),
		w.rule("podinfo-canary", 7, "docs", 3), w.rule("podinfo-primary", 100, "podinfo-canary", 0))
	before := w.bare()
	t := router.Traffic{Primary: 70, Canary: 30}
	w.apply(t)
	w.expect(t)
	w.wants("30 70", "100", "100", "7 3", "70 30")
	w.unchanged(before)
	advice := router.Advice(w.c.Provider, w.canary, w.store)
	if len(advice) != 1 {
		w.Errorf("advice %q, want one about the rule that leads to the canary without the primary", advice)
	}
}

// testShares: weights are proportions. Backends of others keep their share of the rule.
func (w *adoptedWorld) testShares() {
	w.start(w.rule("podinfo-primary", 80, "docs", 20, "podinfo-canary", 0), w.rule("podinfo-primary", 1, "podinfo-canary", 0),
		w.rule("docs", 100, "podinfo-primary", 0, "podinfo-canary", 0))
	before := w.bare()
	w.apply(router.Traffic{Primary: 100})
	w.wants("80 20 0", "1 0", "100 0 0")
	for _, step := range []struct {
		canary      int32
		first, next string
	}{{1, "79 20 1", "99 1"}, {10, "72 20 8", "90 10"}, {33, "54 20 26", "67 33"}, {99, "1 20 79", "1 99"}, {100, "0 20 80", "0 100"}, {0, "80 20 0", "100 0"}} {
		t := router.Traffic{Primary: 100 - step.canary, Canary: step.canary}
		w.apply(t)
		w.expect(t)
		w.wants(step.first, step.next, "100 0 0")
	}
	w.unchanged(before)
}

// testEdits: whatever else the user changes stays, and weights come back to the present step. A write that is undone is known to be.
func (w *adoptedWorld) testEdits() {
	w.start(w.rule("podinfo-primary", 100, "podinfo-canary", 0))
	now := router.Traffic{Primary: 70, Canary: 30}
	w.apply(now)
	w.edit(w.route(), func(o *unstructured.Unstructured) {
		rules := w.rules(o)
		rules = append([]any{w.rule("docs", 100)}, rules...)
		rules[1].(map[string]any)[w.a.Backends] = []any{
			w.a.Backend("podinfo-canary", 100), w.a.Backend("podinfo-primary", 0),
		}
		normal, err := router.Fields(map[string]any{w.a.Rules: rules})
		if err == nil {
			err = unstructured.SetNestedField(o.Object, normal[w.a.Rules], "spec", w.a.Rules)
		}
		if err != nil {
			w.Error(err)
		}
	})
	before := w.bare()
	w.apply(now)
	w.expect(now)
	w.wants("100", "30 70")
	w.unchanged(before)
	w.weigh(1, 100, 0)
	if w.undone(w.route(), now) == 0 {
		w.Error("nobody knows that a write was undone")
	}
	w.apply(now)
	w.wants("100", "30 70")
}

// weigh changes the weights of a rule as a user.
func (w *adoptedWorld) weigh(rule int, weights ...int64) {
	w.edit(w.route(), func(o *unstructured.Unstructured) {
		rules := w.rules(o)
		for i, item := range rules[rule].(map[string]any)[w.a.Backends].([]any) {
			item.(map[string]any)["weight"] = weights[i]
		}
		if err := unstructured.SetNestedSlice(o.Object, rules, "spec", w.a.Rules); err != nil {
			w.Error(err)
		}
	})
}

// testTwoCanaries: each has its rules in the route, and neither undoes what the other has written.
func (w *adoptedWorld) testTwoCanaries() {
	w.start(w.rule("podinfo-primary", 100, "podinfo-canary", 0), w.rule("shop-primary", 100, "shop-canary", 0))
	before := w.bare()
	other := *w
	otherWorld := *w.world
	other.world = &otherWorld
	other.canary = w.canary.DeepCopy()
	other.canary.Name, other.canary.UID, other.canary.Spec.TargetRef.Name = "shop", "77", "shop"
	for _, weight := range []int32{10, 50, 100, 0} {
		a, b := router.Traffic{Primary: 100 - weight, Canary: weight}, router.Traffic{Primary: weight, Canary: 100 - weight}
		w.apply(a)
		other.apply(b)
		w.expect(a)
		other.expect(b)
		if w.undone(w.route(), a) != 0 || other.undone(w.route(), b) != 0 {
			w.Error("one undoes what the other has written")
		}
	}
	w.unchanged(before)
}

func (w *adoptedWorld) testCrash() {
	w.start(w.rule("podinfo-primary", 100, "podinfo-canary", 0))
	before := w.bare()
	for _, weight := range []int32{10, 60, 0} {
		t := router.Traffic{Primary: 100 - weight, Canary: weight}
		w.store.AllowWrites(0)
		if err := w.tryApply(t); !errors.Is(err, ErrCrashed) {
			w.Fatalf("crash before the write: %v", err)
		}
		w.store.AllowWrites(unlimited)
		w.restart()
		w.apply(t)
		w.restart()
		w.expect(t)
	}
	w.unchanged(before)
}

// testDeletion: a route that its user deletes is not made again, and it is never ours to delete.
func (w *adoptedWorld) testDeletion() {
	w.start(w.rule("podinfo-primary", 100, "podinfo-canary", 0))
	t := router.Traffic{Primary: 70, Canary: 30}
	w.apply(t)
	rendered := w.render(t)
	remaining, err := router.Remaining(w.canary, rendered, w.store)
	if err != nil || len(remaining) > 0 {
		w.Errorf("remaining %v (%v), want nothing to delete", remaining, err)
	}
	w.remove(w.route())
	var fault *router.FieldError
	if err := w.applier.Apply(w.Context(), w.canary, rendered); !errors.As(err, &fault) {
		w.Errorf("Apply() of a route that is gone: %v, want a fault", err)
	}
	if o, err := w.store.Get(w.route()); o != nil || err != nil {
		w.Errorf("the route was made again: %v, %v", o, err)
	}
	if back, err := router.Originals(w.canary, rendered, w.store); err != nil || len(back) > 0 {
		w.Errorf("given back %v (%v), want nothing", back, err)
	}
}

func (w *adoptedWorld) testFaults() {
	for name, rules := range map[string][]map[string]any{
		"no rule":           {w.rule("docs", 100)},
		"one side":          {w.rule("podinfo-primary", 100)},
		"twice":             {w.rule("podinfo-primary", 50, "podinfo-primary", 50, "podinfo-canary", 0)},
		"too small a share": {w.rule("podinfo-primary", 1, "podinfo-canary", 0, "docs", 1)},
		"no route":          nil,
	} {
		w.remove(w.route())
		if rules != nil {
			w.start(rules...)
		}
		var fault *router.FieldError
		if _, err := w.c.Provider.Render(w.canary, router.Traffic{Primary: 100}, w.store); !errors.As(err, &fault) || fault.Field != "spec.routeRef.name" {
			w.Errorf("%s: Render(): %v, want a fault of spec.routeRef.name", name, err)
		}
	}
	// A route that was made for the Canary goes with it, and would leave its user without any.
	w.start(w.rule("podinfo-primary", 100, "podinfo-canary", 0))
	w.edit(w.route(), func(o *unstructured.Unstructured) {
		o.Object["metadata"].(map[string]any)["annotations"] = map[string]any{router.OwnerAnnotation: router.OwnerMark(w.canary, "test")}
	})
	var fault *router.FieldError
	if err := w.tryApply(router.Traffic{Primary: 90, Canary: 10}); !errors.As(err, &fault) || fault.Field != "spec.routeRef.name" {
		w.Errorf("Apply() to a route of the Canary: %v, want a fault of spec.routeRef.name", err)
	}
}

// testConflict: somebody writes between our read and our write. Neither change is lost.
func (w *adoptedWorld) testConflict() {
	w.start(w.rule("podinfo-primary", 100, "podinfo-canary", 0), w.rule("docs", 50, "blog", 50))
	w.store.BeforeWrite(func(Write) { w.weigh(1, 20, 80) })
	t := router.Traffic{Primary: 70, Canary: 30}
	if err := w.tryApply(t); !router.IsStale(err) {
		w.Errorf("Apply() with a conflict: %v, want a stale error", err)
	}
	w.apply(t)
	w.expect(t)
	w.wants("70 30", "20 80")
}

// testGivenBack: each rule gets the weights back that it had, in what the user has made of the route since.
func (w *adoptedWorld) testGivenBack() {
	w.start(w.rule("podinfo-primary", 3, "podinfo-canary", 1), w.rule("podinfo-primary", 60, "podinfo-canary", 0, "docs", 40), w.rule("docs", 100))
	for _, weight := range []int32{0, 30} {
		w.apply(router.Traffic{Primary: 100 - weight, Canary: weight})
	}
	w.edit(w.route(), func(o *unstructured.Unstructured) {
		rules := w.rules(o)
		rules[0], rules[1], rules[2] = rules[2], rules[0], rules[1]
		if err := unstructured.SetNestedSlice(o.Object, rules, "spec", w.a.Rules); err != nil {
			w.Error(err)
		}
	})
	before := w.bare()
	back, err := router.Originals(w.canary, w.render(router.Traffic{Primary: 100}), w.store)
	if err == nil {
		err = w.applier.Apply(w.Context(), w.canary, back)
	}
	if err != nil {
		w.Fatal(err)
	}
	w.wants("100", "3 1", "60 0 40")
	w.unchanged(before)
	if _, kept := w.get(w.route()).GetAnnotations()[router.OriginalAnnotation]; kept {
		w.Error("the annotation with the original is left")
	}
}

// testLeft: a route that another one takes the place of leads to the primary.
func (w *adoptedWorld) testLeft() {
	w.start(w.rule("podinfo-primary", 50, "podinfo-canary", 50))
	w.apply(router.Traffic{Primary: 70, Canary: 30})
	left, err := router.Leave(w.canary, w.a.Provider, w.store)
	if err == nil {
		err = w.applier.Apply(w.Context(), w.canary, left)
	}
	if err != nil {
		w.Fatal(err)
	}
	w.wants("100 0")
	if _, kept := w.get(w.route()).GetAnnotations()[router.OriginalAnnotation]; kept {
		w.Error("the annotation with the original is left")
	}
	w.remove(w.route())
	if left, err := router.Leave(w.canary, w.a.Provider, w.store); err != nil || len(left) > 0 {
		w.Errorf("Leave() of a route that is gone = %v, %v", left, err)
	}
}
