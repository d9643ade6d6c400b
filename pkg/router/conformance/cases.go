package conformance

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/router"
)

func (w *world) testCreate() {
	t := router.Traffic{Primary: 100}
	if _, err := w.c.Provider.Read(w.canary, w.store); !errors.Is(err, router.ErrNotFound) {
		w.Errorf("Read() of nothing: %v, want ErrNotFound", err)
	}
	w.apply(t)
	w.expect(t)
	for _, o := range w.render(t) {
		stored := w.get(o.Ref)
		owner := metav1.GetControllerOf(stored)
		switch {
		case w.c.Unowned:
			if owner != nil || !router.Owns(w.canary, stored) {
				w.Errorf("%s has the owner %v and annotations %v, want none but a mark", o.Ref, owner, stored.GetAnnotations())
			}
		case owner == nil || owner.UID != w.canary.UID || !*owner.BlockOwnerDeletion:
			w.Errorf("%s has the owner %v, want Canary %s", o.Ref, owner, w.canary.UID)
		}
	}
}

func (w *world) testEachWeight() {
	weights := []int32{0, 100, 0}
	if w.c.Provider.Abilities().Weights {
		weights = append(weights, w.weights()...)
	}
	for _, weight := range weights {
		t := router.Traffic{Primary: 100 - weight, Canary: weight}
		w.apply(t)
		w.expect(t)
	}
}

// weights are all that a canary can have. A server is asked for the same things at each, so that some are enough there.
func (w *world) weights() []int32 {
	if w.store.memory() == nil {
		return []int32{0, 1, 50, 99, 100}
	}
	weights := make([]int32, 101)
	for i := range weights {
		weights[i] = int32(i)
	}
	return weights
}

// testEachFeature goes through the scenarios of the golden files, there and back.
func (w *world) testEachFeature() {
	all := w.c.scenarios()
	for _, direction := range []string{"there", "back"} {
		for i := range all {
			s := &all[i]
			if direction == "back" {
				s = &all[len(all)-1-i]
			}
			w.Run(fmt.Sprintf("%s/%s", direction, s.name), func(t *testing.T) {
				sub := *w
				sub.T, sub.canary = t, w.c.canary(s.shape)
				sub.apply(s.traffic)
				sub.expect(s.traffic)
				if !t.Failed() {
					note(&w.c.passed.Features, s.name)
				}
			})
		}
	}
}

// testAdoption: an object that the user made keeps all that isn't ours, gets no owner, and is remembered as it was.
func (w *world) testAdoption() {
	before, after := w.steps()
	originals := map[router.Ref]any{}
	for _, o := range w.render(router.Traffic{Primary: 100}) {
		users := o.Wanted.DeepCopy()
		users.SetLabels(nil)
		users.SetAnnotations(nil)
		if o.KeepOriginal && !w.store.strict() {
			users.Object["spec"] = map[string]any{"hosts": []any{"user.example.com"}}
		}
		w.setForeign(users)
		w.put(o.Ref, users)
		originals[o.Ref] = w.get(o.Ref).Object["spec"]
	}
	touched := map[router.Ref]bool{}
	for _, t := range []router.Traffic{before, after} {
		changes, err := w.applier.Diff(w.canary, w.render(t))
		if err != nil {
			w.Fatal(err)
		}
		for i := range changes {
			touched[changes[i].Ref] = true
		}
		w.apply(t)
		w.expect(t)
	}
	for _, o := range w.render(after) {
		w.expectForeign(o.Ref)
		stored := w.get(o.Ref)
		if owners := stored.GetOwnerReferences(); len(owners) > 0 {
			w.Errorf("%s has the owners %v, want none: it belongs to the user", o.Ref, owners)
		}
		raw, kept := stored.GetAnnotations()[router.OriginalAnnotation]
		// What is as wanted already has nothing to be remembered.
		if want := o.KeepOriginal && touched[o.Ref]; kept != want {
			w.Errorf("%s: original kept: %t, want %t", o.Ref, kept, want)
		}
		if !kept {
			continue
		}
		want, err := json.Marshal(originals[o.Ref])
		if err != nil {
			w.Fatal(err)
		}
		if diff := gocmp.Diff(string(want), raw); diff != "" {
			w.Errorf("%s: original (-want +got):\n%s", o.Ref, diff)
		}
	}
	w.giveBack(w.render(after), originals)
}

// giveBack reverts the objects that were taken over, and expects those specs.
func (w *world) giveBack(rendered []router.Object, specs map[router.Ref]any) {
	back, err := router.Originals(w.canary, rendered, w.store)
	if err != nil {
		w.Fatal(err)
	}
	if err := w.applier.Apply(w.Context(), w.canary, back); err != nil {
		w.Fatal(err)
	}
	for i := range rendered {
		o := &rendered[i]
		if !o.KeepOriginal {
			continue
		}
		if diff := gocmp.Diff(specs[o.Ref], w.get(o.Ref).Object["spec"]); diff != "" {
			w.Errorf("%s: given back (-want +got):\n%s", o.Ref, diff)
		}
		w.expectForeign(o.Ref)
	}
}

func (w *world) testForeignEdits() {
	before, after := w.steps()
	w.apply(before)
	for _, o := range w.render(before) {
		w.edit(o.Ref, w.setForeign)
	}
	w.expect(before)
	w.apply(after)
	w.expect(after)
	for _, o := range w.render(after) {
		w.expectForeign(o.Ref)
	}
}

// testDrift: whatever happens to the owned fields, they come back as the present step wants them. In Flagger any
// difference reset the weights to 100 and 0 (routing bug 1).
func (w *world) testDrift() {
	_, now := w.steps()
	w.apply(now)
	// An edit holds the store, from which nothing can be rendered then.
	others := w.render(router.Traffic{Primary: 100})
	drifts := map[string]func(router.Object, *unstructured.Unstructured) error{
		"other weights": func(o router.Object, live *unstructured.Unstructured) error {
			for _, other := range others {
				if other.Ref == o.Ref {
					return copyOwned(live, other)
				}
			}
			return nil
		},
		"missing metadata": func(_ router.Object, live *unstructured.Unstructured) error {
			live.SetLabels(nil)
			live.SetAnnotations(nil)
			return nil
		},
	}
	if !w.store.strict() {
		drifts["missing fields"] = func(o router.Object, live *unstructured.Unstructured) error {
			for _, path := range o.Owned {
				unstructured.RemoveNestedField(live.Object, path...)
			}
			return nil
		}
		drifts["nonsense"] = func(o router.Object, live *unstructured.Unstructured) error {
			return unstructured.SetNestedField(live.Object, "nonsense", o.Owned[len(o.Owned)-1]...)
		}
	}
	for name, drift := range drifts {
		w.Run(name, func(t *testing.T) {
			sub := *w
			sub.T = t
			for _, o := range w.render(now) {
				sub.edit(o.Ref, func(live *unstructured.Unstructured) {
					if err := drift(o, live); err != nil {
						t.Error(err)
					}
				})
			}
			sub.apply(now)
			sub.expect(now)
		})
	}
}

// copyOwned gives an object the owned fields that another state wants.
func copyOwned(live *unstructured.Unstructured, other router.Object) error {
	for _, path := range other.Owned {
		value, ok, err := unstructured.NestedFieldCopy(other.Wanted.Object, path...)
		if err != nil {
			return err
		}
		if !ok {
			unstructured.RemoveNestedField(live.Object, path...)
			continue
		}
		if err := unstructured.SetNestedField(live.Object, value, path...); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) testDeletion() {
	_, now := w.steps()
	w.apply(now)
	for _, o := range w.render(now) {
		w.remove(o.Ref)
		if writes := w.apply(now); len(writes) != 1 {
			w.Errorf("after the deletion of %s: writes %v, want one", o.Ref, writes)
		}
		w.expect(now)
	}
}

// testConflict: somebody writes between our read and our write. Neither change is lost.
func (w *world) testConflict() {
	before, after := w.steps()
	w.apply(before)
	changes, err := w.applier.Diff(w.canary, w.render(after))
	if err != nil || len(changes) == 0 {
		w.Fatalf("Diff() = %v, %v; want changes", changes, err)
	}
	w.store.BeforeWrite(func(Write) { w.edit(changes[0].Ref, w.setForeign) })
	if err := w.tryApply(after); !router.IsStale(err) {
		w.Errorf("Apply() with a conflict: %v, want a stale error", err)
	}
	w.apply(after)
	w.expect(after)
	w.expectForeign(changes[0].Ref)
}

func (w *world) testCreatedMeanwhile() {
	t := router.Traffic{Primary: 100}
	first := w.render(t)[0]
	w.store.BeforeWrite(func(Write) {
		users := first.Wanted.DeepCopy()
		w.setForeign(users)
		w.put(first.Ref, users)
	})
	if err := w.tryApply(t); !router.IsStale(err) {
		w.Errorf("Apply() of what exists: %v, want a stale error", err)
	}
	w.apply(t)
	w.expect(t)
	w.expectForeign(first.Ref)
}

// testStaleCache: a cache that lags behind neither repeats a write nor undoes one.
func (w *world) testStaleCache() {
	before, after := w.steps()
	w.apply(before)
	snapshot, err := w.store.Snapshot()
	if err != nil {
		w.Fatal(err)
	}
	lagging := router.NewApplier(w.store, snapshot)
	for _, t := range []router.Traffic{after, before, after} {
		if err := lagging.Apply(w.Context(), w.canary, w.render(t)); err != nil {
			w.Fatalf("Apply(%s) on a stale cache: %v", t, err)
		}
		if writes := w.store.Writes(); len(writes) != 1 {
			w.Errorf("Apply(%s) on a stale cache: writes %v, want one", t, writes)
		}
		if err := lagging.Apply(w.Context(), w.canary, w.render(t)); err != nil || len(w.store.Writes()) > 0 {
			w.Errorf("second Apply(%s) on a stale cache: %v, or writes", t, err)
		}
	}
	w.expect(after)
}

// testCrash stops after each number of writes and lets another process go on.
func (w *world) testCrash() {
	before, after := w.steps()
	for _, first := range []bool{true, false} {
		for allowed := 0; ; allowed++ {
			sub := newWorld(w.T, w.c, w.schemas)
			if !first {
				sub.apply(before)
			}
			sub.store.AllowWrites(allowed)
			err := sub.tryApply(after)
			if err == nil {
				break
			}
			if !errors.Is(err, ErrCrashed) {
				w.Fatalf("crash after %d writes: %v", allowed, err)
			}
			sub.store.AllowWrites(unlimited)
			sub.restart()
			sub.apply(after)
			sub.expect(after)
		}
	}
}

// testWebhook: what a webhook makes of our fields is accepted, so that it is not written again and again, until somebody
// else changes it or we want something else.
func (w *world) testWebhook() {
	if w.store.strict() {
		w.Skip("needs unknown fields")
	}
	for _, o := range w.render(router.Traffic{Primary: 100}) {
		newWorld(w.T, w.c, nil).testWebhookFor(o)
	}
}

func (w *world) testWebhookFor(o router.Object) {
	before, after := w.steps()
	w.store.Mutate(func(stored *unstructured.Unstructured) {
		if stored.GetKind() == o.Ref.Kind && stored.GetName() == o.Ref.Name {
			w.setOwned(o, stored, "webhook", "stamp")
		}
	})
	for _, t := range []router.Traffic{before, after} {
		w.apply(t)
		if writes := w.apply(t); len(writes) > 0 {
			w.Errorf("%s: second Apply(%s) wrote %v, want nothing", o.Ref, t, writes)
		}
	}
	last := 0
	for repairs := range 3 {
		w.store.Mutate(nil)
		w.edit(o.Ref, func(stored *unstructured.Unstructured) { w.setOwned(o, stored, "drift", strconv.Itoa(repairs)) })
		if got := w.undone(o.Ref, after); got <= last {
			w.Errorf("%s: write %d was undone, after write %d", o.Ref, got, last)
		} else {
			last = got
		}
		if writes := w.apply(after); len(writes) != 1 {
			w.Errorf("%s: repair %d wrote %v, want once", o.Ref, repairs, writes)
		}
	}
}

// undone is which of our writes somebody has undone, as a change to the traffic tells.
func (w *world) undone(ref router.Ref, t router.Traffic) int {
	w.Helper()
	changes, err := w.applier.Diff(w.canary, w.render(t))
	if err != nil {
		w.Fatal(err)
	}
	for i := range changes {
		if changes[i].Ref == ref {
			return changes[i].Undone
		}
	}
	return 0
}

// setOwned changes the value at the first owned path that has one.
func (w *world) setOwned(o router.Object, stored *unstructured.Unstructured, name, value string) {
	w.Helper()
	for _, path := range o.Owned {
		field, ok, err := unstructured.NestedFieldCopy(stored.Object, path...)
		if err != nil || !ok {
			continue
		}
		switch v := field.(type) {
		case string:
			field = name + value
		case map[string]any:
			v[name] = value
		case []any:
			field = append(v, map[string]any{name: value})
			if len(v) > 0 && reflect.DeepEqual(v[len(v)-1], map[string]any{name: value}) {
				field = v
			}
		}
		if err := unstructured.SetNestedField(stored.Object, field, path...); err != nil {
			w.Error(err)
		}
		return
	}
	w.Errorf("%s: no owned field has a value", o.Ref)
}

func (w *world) testOtherCanary() {
	t := router.Traffic{Primary: 100}
	w.apply(t)
	w.canary = w.canary.DeepCopy()
	w.canary.Name, w.canary.UID = "other", "77"
	var fault *router.FieldError
	field := cmp.Or(w.c.NamedBy, "spec.service.name")
	if err := w.tryApply(t); !errors.As(err, &fault) || fault.Field != field {
		w.Errorf("Apply() to an object of another Canary: %v, want a fault of %s", err, field)
	}
}

// testRestoredCanary: objects of a Canary that came back from a backup must not be collected as garbage.
func (w *world) testRestoredCanary() {
	t := router.Traffic{Primary: 100}
	w.apply(t)
	w.canary = w.canary.DeepCopy()
	w.canary.UID = "restored"
	w.apply(t)
	w.expect(t)
	for _, o := range w.render(t) {
		if stored := w.get(o.Ref); !router.Owns(w.canary, stored) {
			w.Errorf("%s has the owners %v and annotations %v, want the restored Canary", o.Ref, stored.GetOwnerReferences(), stored.GetAnnotations())
		}
	}
}
