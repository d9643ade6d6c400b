package conformance

import (
	"slices"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// previous looks at what the Canary had under a name, with nothing left in the spec but a port.
func (w *world) previous(name string, present []router.Object) router.Previous {
	w.Helper()
	bare := w.canary.DeepCopy()
	bare.Spec.Service = v1beta1.CanaryService{Name: bare.Spec.Service.Name, Port: bare.Spec.Service.Port}
	bare.Spec.Analysis = &v1beta1.CanaryAnalysis{Interval: "1m"}
	all := func(router.Ref) bool { return true }
	f, err := router.PreviousOf(bare, w.c.Provider, name, present, all, w.store)
	if err != nil {
		w.Fatal(err)
	}
	return f
}

// testPrevious: what was made under a previous name is found by that name alone, whatever else has changed in the spec, and the
// objects of the present name are none of it.
func (w *world) testPrevious() {
	t := router.Traffic{Primary: 100}
	w.apply(t)
	old, name := w.render(t), router.NamesOf(w.canary).Apex
	if f := w.previous(name, old); len(f.Ours)+len(f.Originals) > 0 {
		w.Errorf("former objects %+v under the present name", f)
	}
	w.canary = w.canary.DeepCopy()
	w.canary.Spec.Service.Name = "renamed"
	w.apply(t)
	present, want := w.render(t), []router.Ref(nil)
	for _, o := range slices.Backward(old) {
		still := slices.ContainsFunc(present, func(now router.Object) bool { return now.Ref == o.Ref })
		if !still {
			want = append(want, o.Ref)
		}
	}
	f := w.previous(name, present)
	if diff := cmp.Diff(want, f.Ours); diff != "" {
		w.Fatalf("former objects (-want +got):\n%s", diff)
	}
	if err := w.applier.Delete(w.Context(), w.canary, f.Ours); err != nil {
		w.Fatal(err)
	}
	w.store.Writes()
	w.expect(t)
	if f := w.previous(name, w.render(t)); len(f.Ours) > 0 {
		w.Errorf("left after the deletion: %v", f.Ours)
	}
	other := w.canary
	w.canary = w.canary.DeepCopy()
	w.canary.UID = "another"
	if f := w.previous("renamed", nil); len(f.Ours) > 0 {
		w.Errorf("objects of Canary %s taken for those of one of the same name: %v", other.UID, f.Ours)
	}
}
