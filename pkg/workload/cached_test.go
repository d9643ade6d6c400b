package workload

import (
	"net/http"
	"slices"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// cacheOf is a cache that stopped following the cluster when it held these objects.
func cacheOf(objects ...*unstructured.Unstructured) router.Live {
	return liveFunc(func(ref router.Ref) (*unstructured.Unstructured, error) {
		for _, o := range objects {
			if o != nil && o.GetKind() == ref.Kind && o.GetName() == ref.Name {
				return Summarize(o), nil
			}
		}
		return nil, nil
	})
}

// calls lists all calls that a client made, and forgets them.
func calls(client *fake.FakeDynamicClient) []string {
	var all []string
	for _, a := range client.Actions() {
		all = append(all, a.GetVerb()+" "+a.GetResource().Resource)
	}
	client.ClearActions()
	return all
}

// answerJSONPatches makes a client answer to JSON patches as an API server does.
func answerJSONPatches(client *fake.FakeDynamicClient) {
	client.PrependReactor("patch", "deployments", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch := action.(clienttesting.PatchAction)
		if patch.GetPatchType() != types.JSONPatchType {
			return false, nil, nil
		}
		refused := func(err error) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
		}
		stored, err := client.Tracker().Get(patch.GetResource(), patch.GetNamespace(), patch.GetName())
		if err != nil {
			return true, nil, err
		}
		raw, err := stored.(*unstructured.Unstructured).MarshalJSON()
		if err != nil {
			return true, nil, err
		}
		decoded, err := jsonpatch.DecodePatch(patch.GetPatch())
		if err != nil {
			return refused(err)
		}
		if raw, err = decoded.Apply(raw); err != nil {
			return refused(err)
		}
		next := &unstructured.Unstructured{}
		if err := next.UnmarshalJSON(raw); err != nil {
			return true, nil, err
		}
		return true, next, client.Tracker().Update(patch.GetResource(), next, patch.GetNamespace())
	})
}

func replicasOf(obj *unstructured.Unstructured) int64 {
	return intAt(obj.Object, -1, "spec", "replicas")
}

// A target is given pods by one call.
func TestScaleUpReadsFromTheCache(t *testing.T) {
	stopped := set(t, target(t), int64(0), "spec", "replicas")
	client, d := cluster(stopped)
	ensure(t, d, canary(), target(t))
	primary := get(t, client, "podinfo-primary")
	answerJSONPatches(client)
	client.ClearActions()
	d.live = cacheOf(stopped, primary)
	if err := d.ScaleUp(t.Context(), canary()); err != nil {
		t.Fatal(err)
	}
	if got, want := calls(client), []string{"patch deployments"}; !slices.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
	if got, want := replicasOf(get(t, client, "podinfo")), replicasOf(primary); got != want || want < 1 {
		t.Errorf("%d replicas, want %d", got, want)
	}
}

// Pods that somebody gave a target are not taken away because the cache does not know them yet.
func TestScaleUpByAnOldCacheLeavesPods(t *testing.T) {
	client, d := cluster(set(t, target(t), int64(5), "spec", "replicas"))
	answerJSONPatches(client)
	d.live = cacheOf(set(t, target(t), int64(0), "spec", "replicas"))
	if err := d.ScaleUp(t.Context(), canary()); err != nil {
		t.Fatal(err)
	}
	if got := replicasOf(get(t, client, "podinfo")); got != 5 {
		t.Errorf("%d replicas, want those that somebody set", got)
	}
	// Nor is a target without pods left so because the cache knows some.
	client, d = cluster(set(t, target(t), int64(0), "spec", "replicas"))
	answerJSONPatches(client)
	d.live = cacheOf(target(t))
	if err := d.ScaleUp(t.Context(), canary()); err != nil {
		t.Fatal(err)
	}
	if got := replicasOf(get(t, client, "podinfo")); got < 1 {
		t.Errorf("%d replicas", got)
	}
}

// A promotion reads the target, which it does not write; all else is known.
func TestPromotionReadsFromTheCache(t *testing.T) {
	client, d := cluster(target(t))
	client.ClearActions()
	d.live = cacheOf(target(t))
	c := canary()
	c.Status.Phase, c.Status.Rollout = v1beta1.CanaryPhaseInitializing, &v1beta1.RolloutStatus{}
	ensure(t, d, c, target(t))
	made := []string{"create controllerrevisions", "create deployments"}
	if got := calls(client); !slices.Equal(got, made) {
		t.Errorf("the first time: calls %v, want %v", got, made)
	}
	next := withImage(t, target(t), "podinfo:next")
	put(t, client, next)
	d.live = cacheOf(next, get(t, client, "podinfo-primary"))
	client.ClearActions()
	c.Status.Phase, c.Status.Rollout.Run = v1beta1.CanaryPhasePromoting, 1
	ensure(t, d, c, next)
	promoted := []string{"get deployments", "create controllerrevisions", "update deployments"}
	if got := calls(client); !slices.Equal(got, promoted) {
		t.Errorf("a promotion: calls %v, want %v", got, promoted)
	}
	if got := imageOf(get(t, client, "podinfo-primary")); got != "podinfo:next" {
		t.Errorf("the primary runs %s", got)
	}
}

// A cache that is behind makes a promotion cost more, and changes nothing about its outcome.
func TestPromotionByAnOldCache(t *testing.T) {
	next := withImage(t, target(t), "podinfo:next")
	made := func() (*fake.FakeDynamicClient, *deployment) {
		client, d := cluster(target(t))
		ensure(t, d, canary(), target(t))
		put(t, client, next)
		return client, d
	}
	outcome := func(name string, client *fake.FakeDynamicClient, d *deployment) {
		t.Helper()
		if err := d.EnsurePrimary(t.Context(), canary(), revisionOf(t, next)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		primary := get(t, client, "podinfo-primary")
		if imageOf(primary) != "podinfo:next" || primary.GetAnnotations()["foreign"] != "yes" {
			t.Errorf("%s: image %s, annotations %v", name, imageOf(primary), primary.GetAnnotations())
		}
	}
	foreign := func(client *fake.FakeDynamicClient) {
		u := get(t, client, "podinfo-primary")
		u.SetAnnotations(merge(u.GetAnnotations(), map[string]string{"foreign": "yes"}))
		put(t, client, u)
	}

	client, d := made()
	foreign(client)
	d.live = cacheOf(next)
	outcome("a primary that the cache does not know", client, d)

	client, d = made()
	d.live = cacheOf(next, get(t, client, "podinfo-primary"))
	foreign(client)
	refusals := 0
	client.PrependReactor("update", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) {
		if refusals++; refusals > 1 {
			return false, nil, nil
		}
		return true, nil, apierrors.NewConflict(deploymentKind().resource.GroupResource(), "podinfo-primary", nil)
	})
	outcome("a primary that somebody changed", client, d)

	client, d = made()
	before := get(t, client, "podinfo-primary")
	ensure(t, d, canary(), next)
	d.live = cacheOf(next, get(t, client, "podinfo-primary"))
	put(t, client, before)
	foreign(client)
	outcome("a primary that the cache takes for the copy", client, d)

	// The target is read anew: a verdict on one revision promotes no other one.
	client, d = made()
	put(t, client, withImage(t, target(t), "podinfo:later"))
	d.live = cacheOf(next, get(t, client, "podinfo-primary"))
	client.ClearActions()
	if err := d.EnsurePrimary(t.Context(), canary(), revisionOf(t, next)); err == nil {
		t.Error("a target that moved was promoted")
	}
	if got := writes(client); len(got) > 0 {
		t.Errorf("a target that moved: writes %v", got)
	}
}

// Copies that are as they should be are not read from the server. Those that are not, or that the cache can't judge, are.
func TestConfigsInPlaceAreNotRead(t *testing.T) {
	b := newBench(t, deploys(t, fromSettings), object(t, settingsYAML), object(t, tokenYAML))
	b.kind.options.IncludeLabelPrefix = nil
	revision := b.observe(canary()).Target.Revision
	copied := func() map[string]string {
		t.Helper()
		b.client.ClearActions()
		names, err := b.kind.copies().ensure(t.Context(), canary(), revision)
		if err != nil || names["configmap/settings"] != "settings-primary" || names["secret/token"] != "token-primary" {
			t.Errorf("names %v, %v", names, err)
		}
		return names
	}
	copied()
	held := []*unstructured.Unstructured{
		b.config(configMapKind, "settings"), b.config(configMapKind, "settings-primary"),
		b.config(secretKind, "token"), b.config(secretKind, "token-primary"),
	}
	b.kind.live = cacheOf(held...)
	copied()
	if got := calls(b.client); len(got) > 0 {
		t.Errorf("calls %v", got)
	}
	for what, edit := range map[string]func(copied *unstructured.Unstructured){
		"another content": func(u *unstructured.Unstructured) { u.Object["data"] = map[string]any{"a": "other"} },
		"immutable":       func(u *unstructured.Unstructured) { u.Object["immutable"] = true },
		"another owner":   func(u *unstructured.Unstructured) { u.SetOwnerReferences(nil) },
	} {
		changed := held[1].DeepCopy()
		edit(changed)
		b.kind.live = cacheOf(held[0], changed, held[2], held[3])
		copied()
		if got := calls(b.client); len(got) == 0 {
			t.Errorf("a copy with %s was not read", what)
		}
	}
	b.kind.live, b.kind.options.IncludeLabelPrefix = cacheOf(held...), []string{"team"}
	copied()
	if got := calls(b.client); len(got) == 0 {
		t.Error("labels are copied, and nobody read them")
	}
}

// A copy that the cache does not know costs no read, and is found where there is one all the same.
func TestCopiesAreMadeWithoutARead(t *testing.T) {
	b := newBench(t, deploys(t, fromSettings), object(t, settingsYAML), object(t, tokenYAML))
	b.kind.options.IncludeLabelPrefix = nil
	revision := b.observe(canary()).Target.Revision
	b.kind.live = cacheOf()
	for _, want := range [][]string{
		{"get configmaps", "get secrets", "create configmaps", "create secrets"},
		{"get configmaps", "get secrets", "create configmaps", "get configmaps", "create secrets", "get secrets"},
	} {
		b.client.ClearActions()
		names, err := b.kind.copies().ensure(t.Context(), canary(), revision)
		if err != nil || names["configmap/settings"] != "settings-primary" {
			t.Errorf("names %v, %v", names, err)
		}
		if got := calls(b.client); !slices.Equal(got, want) {
			t.Errorf("calls %v, want %v", got, want)
		}
	}
}
