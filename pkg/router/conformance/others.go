package conformance

import (
	"encoding/json"
	"errors"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/router"
)

// testFilledIn: the API server, or a webhook, fills in fields beside ours whenever an object is written, as defaults of a later
// version of a CRD would be. They are left alone, and cost no second write.
func (w *world) testFilledIn() {
	if w.store.memory() == nil {
		w.Skip("needs a webhook")
	}
	before, after := w.steps()
	refs := map[router.Ref]bool{}
	for _, o := range w.render(before) {
		refs[o.Ref] = true
	}
	w.store.Mutate(func(o *unstructured.Unstructured) {
		for ref := range refs {
			if ref.Kind == o.GetKind() && ref.Name == o.GetName() {
				w.setForeign(o)
			}
		}
	})
	for _, t := range []router.Traffic{before, after} {
		w.apply(t)
		w.expect(t)
		for ref := range refs {
			w.expectForeign(ref)
		}
	}
}

// testConcurrentWriter: somebody writes before each of our writes, again and again. Nothing of theirs is lost, and once they stop the
// traffic is as wanted.
func (w *world) testConcurrentWriter() {
	const times = 5
	before, after := w.steps()
	w.apply(before)
	changes, err := w.applier.Diff(w.canary, w.render(after))
	if err != nil || len(changes) == 0 {
		w.Fatalf("Diff() = %v, %v; want changes", changes, err)
	}
	ref, note := changes[0].Ref, []string{"metadata", "annotations", "example.com/count"}
	for i := range times {
		w.store.BeforeWrite(func(Write) {
			w.edit(ref, func(o *unstructured.Unstructured) {
				if err := unstructured.SetNestedField(o.Object, strconv.Itoa(i), note...); err != nil {
					w.Error(err)
				}
			})
		})
		if err := w.tryApply(after); !router.IsStale(err) {
			w.Errorf("Apply() against a writer: %v, want a stale error", err)
		}
	}
	w.apply(after)
	w.expect(after)
	if got := At(w, w.get(ref), note...); got != strconv.Itoa(times-1) {
		w.Errorf("%s: the other writer's last word is %v", ref, got)
	}
}

// testSourceEdited: an object of the user that is read changes during a run. The traffic stays as it is.
func (w *world) testSourceEdited() {
	_, now := w.steps()
	w.apply(now)
	for ref, users := range w.sources {
		w.edit(ref, func(o *unstructured.Unstructured) {
			for _, path := range [][]string{{"metadata", "labels", "example.com/edited"}, {"metadata", "annotations", "example.com/edited"}} {
				if err := unstructured.SetNestedField(o.Object, "x", path...); err != nil {
					w.Error(err)
				}
			}
		})
		w.sources[ref] = source{users.sent, w.get(ref)}
		w.apply(now)
		w.expect(now)
	}
}

// testSourceGone: an object of the user that is read is deleted during a run. Whoever needs it says which field names it, and what is
// there stays as it is.
func (w *world) testSourceGone() {
	_, now := w.steps()
	w.apply(now)
	for ref := range w.sources {
		w.remove(ref)
		_, err := w.c.Provider.Render(w.canary, now, w.store)
		var fault *router.FieldError
		if err != nil && !errors.As(err, &fault) {
			w.Errorf("Render() without %s: %v, want a fault of a field", ref, err)
		}
		observed, err := w.c.Provider.Read(w.canary, w.store)
		if err != nil || observed.Traffic != now {
			w.Errorf("Read() without %s: %+v, %v; want %s", ref, observed, err, now)
		}
	}
}

// testDeterministic renders everything many times. In Flagger headers came in the order of a map, so that an object differed from
// itself, and was written again and again.
func (w *world) testDeterministic() {
	const times = 20
	all := w.c.scenarios()
	for i := range all {
		s := &all[i]
		w.Run(s.name, func(t *testing.T) {
			sub := *w
			sub.T, sub.canary = t, w.c.canary(s.shape)
			first := sub.rendered(s.traffic)
			for range times {
				if diff := cmp.Diff(first, sub.rendered(s.traffic)); diff != "" {
					t.Fatalf("rendered again (-first +then):\n%s", diff)
				}
			}
		})
	}
}

func (w *world) rendered(t router.Traffic) []string {
	w.Helper()
	var all []string
	for _, o := range w.render(t) {
		raw, err := json.Marshal(o.Wanted.Object)
		if err != nil {
			w.Fatal(err)
		}
		all = append(all, string(raw))
	}
	return all
}
