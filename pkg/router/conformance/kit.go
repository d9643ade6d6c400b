// Package conformance runs every routing provider through the same cases: what a user, another controller, a webhook, a
// stale cache or a crash can do to its objects.
//
// The cases run against a Store, once with the real CRDs of the project that owns the kinds and once without any schema. Where the
// environment names a real API server, they run against that instead, and the requests of the operator are those of its own account.
package conformance

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Case is one provider.
type Case struct {
	Provider router.Provider
	// Shape gives a Canary the fields that the provider needs, beyond those of Podinfo.
	Shape func(*v1beta1.Canary)
	// Sources returns the objects of users that the provider reads for a Canary, one for each that Provider.Sources names, in
	// that order. Nothing may ever change them.
	Sources func(*v1beta1.Canary) []*unstructured.Unstructured
	// Match is what an A/B test of this provider can ask for. Default: several headers and query parameters.
	Match []v1beta1.AnalysisMatch
	// Adapt changes what the scenarios have set into what this provider accepts.
	Adapt func(*v1beta1.Canary)
	// NamedBy is the field that the names of the objects come from. Default: spec.service.name.
	NamedBy string
	// CRDs is where the schemas of the provider's kinds are. Without it they go unchecked.
	CRDs *CRDs
	// Foreign are fields beside the owned ones that users set on objects of a kind.
	Foreign map[string][]Field
	// Unowned is whether the provider was told to leave out owner references.
	Unowned bool
	// Golden is whether testdata holds the rendered objects, and a Record of what passed.
	Golden bool

	passed Record
	// server holds the objects, instead of a store in memory.
	server *server
}

// Field is one field of an object.
type Field struct {
	Path  []string
	Value any
}

// Podinfo is a Canary with nothing but a target, a port and an analysis, and what the changes make of it. A nil change is none.
func Podinfo(changes ...func(*v1beta1.Canary)) *v1beta1.Canary {
	canary := &v1beta1.Canary{
		ObjectMeta: metav1.ObjectMeta{Name: "podinfo", Namespace: "test", UID: "9a3f", Generation: 1},
		Spec: v1beta1.CanarySpec{
			TargetRef: v1beta1.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "podinfo"},
			Service: v1beta1.CanaryService{
				Port: 9898,
				Apex: &v1beta1.CustomMetadata{
					Labels:      map[string]string{"team": "a"},
					Annotations: map[string]string{"example.com/owner": "a"},
				},
			},
			Analysis: &v1beta1.CanaryAnalysis{Interval: "1m", Threshold: 5, StepWeight: 10, MaxWeight: 50},
		},
	}
	for _, change := range changes {
		if change != nil {
			change(canary)
		}
	}
	return canary
}

// canary returns a Canary as this provider needs it.
func (c *Case) canary(change ...func(*v1beta1.Canary)) *v1beta1.Canary {
	return Podinfo(slices.Concat([]func(*v1beta1.Canary){c.Shape}, change, []func(*v1beta1.Canary){c.Adapt})...)
}

// Run runs all cases. For a provider without routing objects it only checks that there are none.
func Run(t *testing.T, c Case) {
	if !c.Provider.Abilities().Routes {
		t.Run("NoObjects", c.testNoObjects)
		return
	}
	if c.server = serverFor(t); c.server != nil {
		c.server.serve(t, c.CRDs, c.Provider)
		c.runAll(t, nil)
		return
	}
	for _, schemas := range []bool{false, true} {
		if schemas && c.CRDs == nil {
			continue
		}
		t.Run(fmt.Sprintf("RealCRDs=%t", schemas), func(t *testing.T) {
			var loaded Schemas
			if schemas {
				loaded = LoadSchemas(t, *c.CRDs)
			}
			c.runAll(t, loaded)
		})
	}
	if c.Golden {
		t.Run("Golden", c.testGolden)
		c.passed.Schemas = c.CRDs.String()
		if !t.Failed() {
			t.Run("Record", c.passed.keep)
		}
	}
}

// cases are what every provider is held to.
func cases() map[string]func(*world) {
	return map[string]func(*world){
		"Create":           (*world).testCreate,
		"EachWeight":       (*world).testEachWeight,
		"EachFeature":      (*world).testEachFeature,
		"Adoption":         (*world).testAdoption,
		"ForeignEdits":     (*world).testForeignEdits,
		"Drift":            (*world).testDrift,
		"Deletion":         (*world).testDeletion,
		"Former":           (*world).testPrevious,
		"Conflict":         (*world).testConflict,
		"CreatedMeanwhile": (*world).testCreatedMeanwhile,
		"StaleCache":       (*world).testStaleCache,
		"Crash":            (*world).testCrash,
		"Webhook":          (*world).testWebhook,
		"FilledIn":         (*world).testFilledIn,
		"ConcurrentWriter": (*world).testConcurrentWriter,
		"SourceEdited":     (*world).testSourceEdited,
		"SourceGone":       (*world).testSourceGone,
		"Deterministic":    (*world).testDeterministic,
		"OtherCanary":      (*world).testOtherCanary,
		"RestoredCanary":   (*world).testRestoredCanary,
	}
}

// CaseNames lists the cases of the kit.
func CaseNames() []string { return slices.Sorted(maps.Keys(cases())) }

func (c *Case) runAll(t *testing.T, schemas Schemas) {
	passed := &c.passed.Cases
	if schemas != nil {
		passed = &c.passed.CheckedCases
	}
	for name, run := range cases() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c, schemas)
			run(w)
			// Whoever is skipped or fails at once does not come here.
			if t.Failed() {
				return
			}
			note(passed, name)
			w.expectNamedCalls()
		})
	}
}

// expectNamedCalls checks that nothing was asked for but resources that the provider names. Caches and roles are made for those.
func (w *world) expectNamedCalls() {
	w.Helper()
	for _, call := range w.store.Calls() {
		_, resource, _ := strings.Cut(call, " ")
		if !slices.ContainsFunc(w.c.Provider.Resources(), func(ref router.Ref) bool { return ref.Resource.GroupResource().String() == resource }) {
			w.Errorf("asked to %s, which is none of the resources that the provider names", call)
		}
	}
}

func (c *Case) testNoObjects(t *testing.T) {
	w := newWorld(t, c, nil)
	for _, traffic := range []router.Traffic{{Primary: 100}, {Canary: 100}} {
		if objects := w.render(traffic); len(objects) > 0 {
			t.Errorf("%s: %d objects, want none", traffic, len(objects))
		}
	}
	observed, err := c.Provider.Read(w.canary, w.store)
	if err != nil || !observed.Settled || observed.Traffic != (router.Traffic{Primary: 100}) {
		t.Errorf("Read() = %+v, %v; want all traffic on the primary", observed, err)
	}
}

// world is one store with one provider, and one Canary in it.
type world struct {
	*testing.T
	c       *Case
	store   *Store
	applier *router.Applier
	canary  *v1beta1.Canary
	sources map[router.Ref]source
	schemas Schemas
}

func newWorld(t *testing.T, c *Case, schemas Schemas) *world {
	store := NewStore(schemas)
	if c.server != nil {
		store = newStore(c.server.emptied(t))
	}
	return &world{
		T: t, c: c, store: store, applier: router.NewApplier(store, store), canary: c.canary(),
		sources: map[router.Ref]source{}, schemas: schemas,
	}
}

// restart is what a new process begins with.
func (w *world) restart() { w.applier = router.NewApplier(w.store, w.store) }

func (w *world) render(t router.Traffic) []router.Object {
	w.Helper()
	w.provideSources()
	objects, err := w.c.Provider.Render(w.canary, t, w.store)
	if err != nil {
		w.Fatalf("Render(%s): %v", t, err)
	}
	return objects
}

// apply makes the traffic so, and returns the writes that it took.
func (w *world) apply(t router.Traffic) []Write {
	w.Helper()
	if err := w.tryApply(t); err != nil {
		w.Fatalf("Apply(%s): %v", t, err)
	}
	return w.store.Writes()
}

func (w *world) tryApply(t router.Traffic) error {
	w.Helper()
	return w.applier.Apply(context.Background(), w.canary, w.render(t))
}

// expect checks that the traffic is so, and that nothing remains to be done.
func (w *world) expect(t router.Traffic) {
	w.Helper()
	observed, err := w.c.Provider.Read(w.canary, w.store)
	if err != nil {
		w.Fatalf("Read after %s: %v", t, err)
	}
	if diff := cmp.Diff(t, observed.Traffic); diff != "" {
		w.Errorf("traffic (-want +got):\n%s", diff)
	}
	// A new applier remembers no answers of the server: what is stored has to equal what is rendered, defaults and all.
	for _, applier := range []*router.Applier{w.applier, router.NewApplier(w.store, w.store)} {
		changes, err := applier.Diff(w.canary, w.render(t))
		if err != nil {
			w.Fatalf("Diff(%s): %v", t, err)
		}
		if len(changes) > 0 {
			w.Errorf("Diff(%s) after Apply: %+v, want nothing", t, changes)
		}
	}
	if writes := w.apply(t); len(writes) > 0 {
		w.Errorf("second Apply(%s) wrote %v, want nothing", t, writes)
	}
	w.expectSources()
}

func (w *world) get(ref router.Ref) *unstructured.Unstructured {
	w.Helper()
	o, err := w.store.Get(ref)
	if err != nil {
		w.Fatal(err)
	}
	if o == nil {
		w.Fatalf("%s does not exist", ref)
	}
	return o
}

func (w *world) edit(ref router.Ref, change func(*unstructured.Unstructured)) {
	w.Helper()
	if err := w.store.Edit(ref, change); err != nil {
		w.Fatal(err)
	}
}

func (w *world) put(ref router.Ref, o *unstructured.Unstructured) {
	w.Helper()
	if err := w.store.Put(ref, o); err != nil {
		w.Fatal(err)
	}
}

// remove deletes an object as somebody else would.
func (w *world) remove(ref router.Ref) {
	w.Helper()
	if err := w.store.remove(ref); err != nil {
		w.Fatal(err)
	}
}

// steps are the traffics that the cases go through: two different ones where the provider can split traffic.
func (w *world) steps() (before, after router.Traffic) {
	if !w.c.Provider.Abilities().Weights {
		return router.Traffic{Primary: 100}, router.Traffic{Canary: 100}
	}
	return router.Traffic{Primary: 90, Canary: 10}, router.Traffic{Primary: 70, Canary: 30}
}

// foreign lists fields that somebody else may have set on an object. Without schemas, unknown ones are among them.
func (w *world) foreign(o *unstructured.Unstructured) []Field {
	fields := slices.Concat(w.c.Foreign[o.GetKind()], []Field{
		{[]string{"metadata", "labels", "example.com/foreign"}, "x"},
		{[]string{"metadata", "annotations", "example.com/foreign"}, "x"},
		{[]string{"metadata", "finalizers"}, []any{"example.com/foreign"}},
	})
	if !w.store.strict() {
		fields = append(fields,
			Field{[]string{"foreign"}, "x"},
			Field{[]string{"spec", "foreign"}, map[string]any{"deep": []any{int64(1)}}},
		)
	}
	return fields
}

func (w *world) setForeign(o *unstructured.Unstructured) {
	w.Helper()
	for _, f := range w.foreign(o) {
		if err := unstructured.SetNestedField(o.Object, f.Value, f.Path...); err != nil {
			w.Fatal(err)
		}
	}
}

func (w *world) expectForeign(ref router.Ref) {
	w.Helper()
	o := w.get(ref)
	for _, f := range w.foreign(o) {
		got, _, err := unstructured.NestedFieldCopy(o.Object, f.Path...)
		if err != nil {
			w.Fatal(err)
		}
		if diff := cmp.Diff(f.Value, got); diff != "" {
			w.Errorf("%s: foreign field %v (-want +got):\n%s", ref, f.Path, diff)
		}
	}
}
