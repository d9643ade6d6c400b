package istio_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/istio"
	"flagger.app/flagger/pkg/router/services"
)

// editRoutes applies what a Canary wants, changes the stored VirtualService, and returns what would be written next.
func editRoutes(t *testing.T, c *v1beta1.Canary, traffic router.Traffic, edit func(spec map[string]any)) []router.Change {
	t.Helper()
	store := conformance.NewStore(nil)
	applier, provider := router.NewApplier(store, store), istio.New(istio.Options{})
	objects, err := provider.Render(c, traffic, store)
	if err != nil {
		t.Fatal(err)
	}
	if err := applier.Apply(t.Context(), c, objects); err != nil {
		t.Fatal(err)
	}
	ref := router.Ref{Resource: provider.Resources()[1].Resource, Kind: "VirtualService", Namespace: "test", Name: "podinfo"}
	live, err := store.Get(ref)
	if err != nil {
		t.Fatal(err)
	}
	edit(live.Object["spec"].(map[string]any))
	if err := store.Put(ref, live); err != nil {
		t.Fatal(err)
	}
	changes, err := applier.Diff(c, objects)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func Test01_DriftIsRepairedToTheStepAtHand(t *testing.T) {
	c := conformance.Podinfo()
	changes := editRoutes(t, c, router.Traffic{Primary: 70, Canary: 30}, func(spec map[string]any) {
		spec["http"].([]any)[0].(map[string]any)["timeout"] = "1s"
	})
	if len(changes) != 1 {
		t.Fatalf("changes %v, want one", changes)
	}
	http, _, _ := unstructured.NestedSlice(changes[0].Body, "spec", "http")
	var weights []any
	for _, destination := range http[0].(map[string]any)["route"].([]any) {
		weights = append(weights, destination.(map[string]any)["weight"])
	}
	if diff := cmp.Diff([]any{int64(70), int64(30)}, weights); diff != "" {
		t.Errorf("weights (-want +got):\n%s", diff)
	}
}

// Without a name for the cookie of the primary, changes of routes with a match went unnoticed.
func Test06_ChangedMatchIsNoticedWithoutAPrimaryCookie(t *testing.T) {
	c := conformance.Podinfo()
	c.Spec.Service.Match = []v1beta1.HTTPMatchRequest{{URI: &v1beta1.StringMatch{Prefix: "/a"}}}
	c.Spec.Analysis.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "a"}
	traffic := router.Traffic{Primary: 90, Canary: 10, Cookies: router.Cookies{Canary: "a=b"}}
	for i := range mustRender(t, c, traffic)["http"].([]any) {
		changes := editRoutes(t, c, traffic, func(spec map[string]any) {
			match := spec["http"].([]any)[i].(map[string]any)["match"].([]any)[0].(map[string]any)
			match["uri"] = map[string]any{"prefix": "/b"}
		})
		if len(changes) != 1 {
			t.Errorf("changes after an edit of the match of route %d: %v, want one", i, changes)
		}
	}
}

// The selector of the Service leaked into the metadata that the user gave, and from there into the mesh objects.
func Test11_SelectorStaysOutOfTheMetadataOfTheApex(t *testing.T) {
	c := conformance.Podinfo()
	c.Spec.Service.Apex = &v1beta1.CustomMetadata{Labels: map[string]string{"team": "a"}}
	before := c.DeepCopy()
	store := conformance.NewStore(nil)
	if _, err := services.Apex(c, services.Input{Label: "app", Value: "podinfo"}, store); err != nil {
		t.Fatal(err)
	}
	objects, err := istio.New(istio.Options{}).Render(c, router.Traffic{Primary: 100}, store)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if _, found := o.Wanted.GetLabels()["app"]; found {
			t.Errorf("%s has labels %v", o.Ref, o.Wanted.GetLabels())
		}
	}
	if diff := cmp.Diff(before, c); diff != "" {
		t.Errorf("the Canary was changed:\n%s", diff)
	}
}
