package controller

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/controller/cache/cachetest"
	"flagger.app/flagger/pkg/router/services"
	"flagger.app/flagger/pkg/workload"
)

var (
	canaryResource  = cache.CanaryResource
	serviceResource = services.Ref("", "").Resource
	slicesResource  = cache.SlicesRef("", "").Resource
)

var deploymentResource = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}

// api is a fake API server that does what the loop depends on: resource versions, generations, conflicts, the status
// subresource. It records all calls.
type api struct {
	t      *testing.T
	client *fake.FakeDynamicClient

	mu      sync.Mutex
	version int
	calls   []string
	served  *cachetest.Discovery
	// fail answers a call with an error, described as "verb resource[/subresource]".
	fail func(call string) error
}

func newAPI(t *testing.T, objects ...*unstructured.Unstructured) *api {
	t.Helper()
	a := &api{t: t, version: 100, served: cachetest.NewDiscovery()}
	a.serve("v1", "services", "configmaps")
	a.serve("autoscaling/v2", "horizontalpodautoscalers")
	a.serve("keda.sh/v1alpha1", "scaledobjects")
	a.serve("apps/v1", "deployments", "controllerrevisions")
	a.serve("flagger.app/v1beta1", "canaries")
	kinds := map[schema.GroupVersionResource]string{
		serviceResource:    "ServiceList",
		deploymentResource: "DeploymentList",
		canaryResource:     "CanaryList",
		configMapResource:  "ConfigMapList",
		scalerResource:     "HorizontalPodAutoscalerList",
		kedaResource:       "ScaledObjectList",
		{Group: "apps", Version: "v1", Resource: "controllerrevisions"}: "ControllerRevisionList",
		slicesResource:  "EndpointSliceList",
		ingressResource: "IngressList",
		routeResource:   "TrafficRouteList",
		virtualServices: "VirtualServiceList",
		{Group: "networking.istio.io", Version: "v1beta1", Resource: "destinationrules"}: "DestinationRuleList",
	}
	maps.Copy(kinds, providersKinds())
	a.client = fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds)
	a.client.PrependReactor("*", "*", a.react)
	for _, o := range objects {
		a.put(o)
	}
	a.reset()
	return a
}

// serve makes the discovery know resources.
func (a *api) serve(groupVersion string, resources ...string) {
	a.served.Serve(groupVersion, resources...)
}

func (a *api) cluster() Cluster { return Cluster{Dynamic: a.client, Discovery: a.served} }

func (a *api) react(action clienttesting.Action) (bool, runtime.Object, error) {
	call := action.GetVerb() + " " + action.GetResource().Resource
	if sub := action.GetSubresource(); sub != "" {
		call += "/" + sub
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if action.GetVerb() == "list" || action.GetVerb() == "watch" {
		return false, nil, nil
	}
	a.calls = append(a.calls, call)
	if a.fail != nil {
		if err := a.fail(call); err != nil {
			return true, nil, err
		}
	}
	switch action.GetVerb() {
	case "update":
		u := action.(clienttesting.UpdateAction).GetObject().(*unstructured.Unstructured)
		return a.store(action, u.DeepCopy())
	case "create":
		u := action.(clienttesting.CreateAction).GetObject().(*unstructured.Unstructured)
		a.version++
		u.SetResourceVersion(strconv.Itoa(a.version))
		u.SetGeneration(1)
		u.SetUID(types.UID("uid-" + u.GetName()))
	case "patch":
		return a.patch(action.(clienttesting.PatchAction))
	}
	return false, nil, nil
}

// patch applies a JSON merge patch, or a JSON patch.
func (a *api) patch(action clienttesting.PatchAction) (bool, runtime.Object, error) {
	old, err := a.client.Tracker().Get(action.GetResource(), action.GetNamespace(), action.GetName())
	if err != nil {
		return true, nil, err
	}
	raw, err := json.Marshal(old)
	if err != nil {
		return true, nil, err
	}
	merged, err := patched(raw, action)
	if err != nil {
		return true, nil, err
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(merged); err != nil {
		return true, nil, err
	}
	return a.store(action, u)
}

func patched(raw []byte, action clienttesting.PatchAction) ([]byte, error) {
	if action.GetPatchType() != types.JSONPatchType {
		return jsonpatch.MergePatch(raw, action.GetPatch())
	}
	patch, err := jsonpatch.DecodePatch(action.GetPatch())
	if err != nil {
		return nil, err
	}
	out, err := patch.Apply(raw)
	if err != nil {
		// As a test that fails is answered.
		return nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
	}
	return out, nil
}

// store replaces an object the way an API server does.
func (a *api) store(action clienttesting.Action, u *unstructured.Unstructured) (bool, runtime.Object, error) {
	current, err := a.client.Tracker().Get(action.GetResource(), action.GetNamespace(), u.GetName())
	if err != nil {
		return true, nil, err
	}
	old := current.(*unstructured.Unstructured)
	if u.GetResourceVersion() != "" && u.GetResourceVersion() != old.GetResourceVersion() {
		return true, nil, apierrors.NewConflict(action.GetResource().GroupResource(), u.GetName(), fmt.Errorf("changed"))
	}
	if action.GetSubresource() == "status" {
		status := u.Object["status"]
		u = old.DeepCopy()
		u.Object["status"] = status
	}
	if !reflect.DeepEqual(old.Object["spec"], u.Object["spec"]) {
		u.SetGeneration(old.GetGeneration() + 1)
	}
	a.version++
	u.SetResourceVersion(strconv.Itoa(a.version))
	return true, u.DeepCopy(), a.client.Tracker().Update(action.GetResource(), u, action.GetNamespace())
}

func resourceOf(u *unstructured.Unstructured) schema.GroupVersionResource {
	switch u.GetKind() {
	case "Canary":
		return canaryResource
	case "Deployment":
		return deploymentResource
	case "ConfigMap":
		return configMapResource
	case "HorizontalPodAutoscaler":
		return scalerResource
	case "ScaledObject":
		return kedaResource
	case "Ingress":
		return ingressResource
	case "VirtualService":
		return virtualServices
	case "EndpointSlice":
		return slicesResource
	default:
		return serviceResource
	}
}

// put creates or replaces an object as a user, whatever its version.
func (a *api) put(u *unstructured.Unstructured) {
	a.t.Helper()
	u = u.DeepCopy()
	u.SetResourceVersion("")
	resource := resourceOf(u)
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.client.Tracker().Get(resource, u.GetNamespace(), u.GetName())
	if err == nil {
		_, _, err = a.store(clienttesting.NewUpdateAction(resource, u.GetNamespace(), u), u)
	} else {
		a.version++
		u.SetResourceVersion(strconv.Itoa(a.version))
		err = a.client.Tracker().Create(resource, u, u.GetNamespace())
	}
	if err != nil {
		a.t.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
	}
}

// edit changes an object as a user.
func (a *api) edit(resource schema.GroupVersionResource, name string, value any, path ...string) {
	a.t.Helper()
	u := a.get(resource, name)
	if err := unstructured.SetNestedField(u.Object, value, path...); err != nil {
		a.t.Fatal(err)
	}
	a.put(u)
}

func (a *api) get(resource schema.GroupVersionResource, name string) *unstructured.Unstructured {
	a.t.Helper()
	u, err := a.client.Tracker().Get(resource, "test", name)
	if err != nil {
		a.t.Fatalf("%s %s: %v", resource.Resource, name, err)
	}
	return u.(*unstructured.Unstructured).DeepCopy()
}

func (a *api) canary(name string) *v1beta1.Canary {
	a.t.Helper()
	c, err := cache.Decode(a.get(canaryResource, name))
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// reset forgets the recorded calls.
func (a *api) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = nil
}

func (a *api) recorded() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.calls)
}

func (a *api) failWith(fail func(string) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = fail
}

// patience is how long something may take that other goroutines bring about. In a bubble that is no time of anybody's: it
// passes when nothing is left to do.
const patience = 5 * time.Minute

// inBubble runs a test whose goroutines have a time of their own, which goes on once all of them wait for something: however
// slow the machine is, everything that can happen has happened before the next second begins.
func inBubble(test func(t *testing.T)) func(t *testing.T) {
	return func(t *testing.T) { synctest.Test(t, test) }
}

// bubbled is whether the test has a time of its own.
func bubbled() bool { return time.Now().Year() < 2020 }

// settle lets the other goroutines do what there is to do.
func settle() { time.Sleep(time.Millisecond) }

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	for settle(); !ok(); settle() {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// readyDeployment is a Deployment whose controller has nothing left to do.
func readyDeployment(name string, replicas int64) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": name, "namespace": "test", "uid": "uid-" + name, "generation": int64(1)},
		"spec": map[string]any{
			"replicas": replicas,
			"selector": map[string]any{"matchLabels": map[string]any{"app": name}},
			"template": map[string]any{
				"metadata": map[string]any{"labels": map[string]any{"app": name}},
				"spec": map[string]any{"containers": []any{map[string]any{
					"name": "podinfod", "image": "podinfo:1", "ports": []any{map[string]any{"containerPort": int64(9898), "name": "http"}},
				}}},
			},
		},
		"status": statusOf(1, replicas),
	}}
}

func statusOf(generation, replicas int64) map[string]any {
	return map[string]any{
		"observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
		"readyReplicas": replicas, "availableReplicas": replicas,
	}
}

// makeReady does what the Deployment controller does.
func (a *api) makeReady(name string) {
	u := a.get(deploymentResource, name)
	replicas, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
	status := statusOf(u.GetGeneration(), replicas)
	if reflect.DeepEqual(u.Object["status"], status) {
		return
	}
	u.Object["status"] = status
	a.mu.Lock()
	defer a.mu.Unlock()
	_, _, err := a.store(clienttesting.NewUpdateSubresourceAction(deploymentResource, "status", "test", u), u)
	if err != nil && !apierrors.IsConflict(err) {
		a.t.Error(err)
	}
}

// canaryFor is a Canary of a Deployment of the same name without a mesh, for blue/green runs.
func canaryFor(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "flagger.app/v1beta1", "kind": "Canary",
		"metadata": map[string]any{"name": name, "namespace": "test", "uid": "uid-" + name},
		"spec": map[string]any{
			"provider":  "kubernetes",
			"targetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
			"service":   map[string]any{"port": int64(80), "targetPort": int64(9898)},
			"analysis":  map[string]any{"interval": "10s", "threshold": int64(1), "iterations": int64(1)},
		},
	}}
}

// primaryOf names the primary of a Canary made by canaryFor.
func primaryOf(name string) string {
	return workload.PrimaryName(&v1beta1.Canary{Spec: v1beta1.CanarySpec{TargetRef: v1beta1.LocalObjectReference{Name: name}}})
}

// deployments lists the names of all Deployments.
func (a *api) deployments() []string {
	list, err := a.client.Tracker().List(deploymentResource, deploymentResource.GroupVersion().WithKind("Deployment"), "test")
	if err != nil {
		a.t.Error(err)
		return nil
	}
	var names []string
	for _, u := range list.(*unstructured.UnstructuredList).Items {
		names = append(names, u.GetName())
	}
	return names
}

// makePodsReady does what the Deployment controller does, for all Deployments.
func (a *api) makePodsReady() {
	for _, name := range a.deployments() {
		a.makeReady(name)
	}
}

func replicasOf(a *api, name string) int64 {
	replicas, _, _ := unstructured.NestedInt64(a.get(deploymentResource, name).Object, "spec", "replicas")
	return replicas
}

// withWebhooks adds webhooks to the analysis of a Canary.
func withWebhooks(canary *unstructured.Unstructured, webhooks ...any) {
	canary.Object["spec"].(map[string]any)["analysis"].(map[string]any)["webhooks"] = webhooks
}

// closed is whether a channel was closed.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
