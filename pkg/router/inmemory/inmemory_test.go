package inmemory_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/inmemory"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Case{Provider: inmemory.New(inmemory.Options{})})
}

func TestSettled(t *testing.T) {
	c := conformance.Podinfo()
	provider := inmemory.New(inmemory.Options{ReportsSettled: true})
	store := conformance.NewStore(nil)
	objects, err := provider.Render(c, router.Traffic{Primary: 100}, store)
	if err != nil {
		t.Fatal(err)
	}
	if err := router.NewApplier(store, store).Apply(t.Context(), c, objects); err != nil {
		t.Fatal(err)
	}
	for _, seen := range []int64{0, 1} {
		err := store.Edit(inmemory.Ref(c), func(o *unstructured.Unstructured) {
			o.Object["status"] = map[string]any{"observedGeneration": seen}
		})
		if err != nil {
			t.Fatal(err)
		}
		observed, err := provider.Read(c, store)
		if err != nil || observed.Settled != (seen == 1) || (observed.Reason == "") != observed.Settled {
			t.Errorf("generation %d seen: %+v, %v", seen, observed, err)
		}
	}
}
