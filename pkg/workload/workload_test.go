package workload

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var now = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// live is a cache with these objects in it.
type live map[string]*unstructured.Unstructured

func (l live) Get(ref router.Ref) (*unstructured.Unstructured, error) { return l[ref.Name], nil }

type liveFunc func(router.Ref) (*unstructured.Unstructured, error)

func (f liveFunc) Get(ref router.Ref) (*unstructured.Unstructured, error) { return f(ref) }

func load(t *testing.T, file string) *unstructured.Unstructured {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	obj := &unstructured.Unstructured{}
	if data, err = yaml.YAMLToJSON(data); err != nil {
		t.Fatal(err)
	}
	// The decoder of the API machinery keeps integers apart from floats, as the client does.
	if err := obj.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	return obj
}

func target(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	return load(t, "target.yaml")
}

func canary() *v1beta1.Canary {
	return &v1beta1.Canary{
		ObjectMeta: metav1.ObjectMeta{Name: "podinfo", Namespace: "test", UID: "11111111-2222-4333-8444-555555555555"},
		Spec: v1beta1.CanarySpec{
			TargetRef: v1beta1.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "podinfo"},
			Service:   v1beta1.CanaryService{Port: 9898},
		},
	}
}

// cluster is an API server with these objects on it, and the kind Deployment in front of it.
func cluster(objects ...*unstructured.Unstructured) (*fake.FakeDynamicClient, *deployment) {
	lists := map[schema.GroupVersionResource]string{
		deploymentKind().resource: "DeploymentList",
		revisionsResource():       "ControllerRevisionList",
	}
	for _, s := range scalers() {
		lists[s.resource] = s.kind + "List"
	}
	list := make([]runtime.Object, 0, len(objects))
	for _, obj := range objects {
		list = append(list, obj)
	}
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists, list...)
	options := NewKinds(client, nil, Options{}).options
	return client, &deployment{podKind: deploymentKind(), client: client, options: options}
}

func get(t *testing.T, client *fake.FakeDynamicClient, name string) *unstructured.Unstructured {
	t.Helper()
	obj, err := client.Resource(deploymentKind().resource).Namespace("test").Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

func put(t *testing.T, client *fake.FakeDynamicClient, obj *unstructured.Unstructured) {
	t.Helper()
	if _, err := client.Resource(deploymentKind().resource).Namespace("test").Update(t.Context(), obj, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func set(t *testing.T, obj *unstructured.Unstructured, value any, path ...string) *unstructured.Unstructured {
	t.Helper()
	if err := unstructured.SetNestedField(obj.Object, value, path...); err != nil {
		t.Fatal(err)
	}
	return obj
}

// withImage is the target at another revision.
func withImage(t *testing.T, obj *unstructured.Unstructured, image string) *unstructured.Unstructured {
	t.Helper()
	obj = obj.DeepCopy()
	containers := listAt(obj.Object, podSpec("containers")...)
	containers[0].(map[string]any)["image"] = image
	return obj
}

func imageOf(obj *unstructured.Unstructured) string {
	return stringAt(listAt(obj.Object, podSpec("containers")...)[0].(map[string]any), "image")
}

func revisionOf(t *testing.T, obj *unstructured.Unstructured) rollout.Revision {
	t.Helper()
	hash, err := templateFingerprint(obj)
	if err != nil {
		t.Fatal(err)
	}
	return rollout.Revision{Fingerprint: hash, UID: string(obj.GetUID()), Generation: obj.GetGeneration()}
}

// ensure makes the primary the copy of what obj asks for.
func ensure(t *testing.T, d *deployment, c *v1beta1.Canary, obj *unstructured.Unstructured) {
	t.Helper()
	if err := d.EnsurePrimary(context.Background(), c, revisionOf(t, obj)); err != nil {
		t.Fatal(err)
	}
}

// writes lists what the client was asked to change, as verb and resource.
func writes(client *fake.FakeDynamicClient) []string {
	var list []string
	for _, action := range client.Actions() {
		switch action.GetVerb() {
		case "get", "list", "watch":
		default:
			list = append(list, action.GetVerb()+" "+action.GetResource().Resource)
		}
	}
	return list
}

func golden(t *testing.T, file string, obj *unstructured.Unstructured) {
	t.Helper()
	data, err := yaml.Marshal(obj.Object)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(data)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}
