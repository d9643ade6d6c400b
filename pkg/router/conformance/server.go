package conformance

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"flagger.app/flagger/pkg/router"
)

// Environment variables with the files of two kubeconfigs. With both, the kit runs against that API server, which has no garbage
// collector: the Canaries of the kit are not there.
const (
	// AdminConfig is that of an administrator, for what users and others do.
	AdminConfig = "FLAGGER_KIT_ADMIN"
	// OperatorConfig is that of the account whose rights are under test, for what the operator does.
	OperatorConfig = "FLAGGER_KIT_OPERATOR"
)

// server holds objects on a real API server.
type server struct {
	admin, operator dynamic.Interface
	seen            map[key]bool
	// namespaces are those that are there for sure.
	namespaces map[string]bool
}

// serverFor connects to the API server of the environment. Without one it returns nil.
func serverFor(t *testing.T) *server {
	t.Helper()
	if os.Getenv(AdminConfig) == "" || os.Getenv(OperatorConfig) == "" {
		return nil
	}
	client := func(variable string) dynamic.Interface {
		config, err := clientcmd.BuildConfigFromFlags("", os.Getenv(variable))
		if err != nil {
			t.Fatal(err)
		}
		config.QPS, config.Burst = 1000, 1000
		c, err := dynamic.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	return &server{admin: client(AdminConfig), operator: client(OperatorConfig), seen: map[key]bool{}, namespaces: map[string]bool{}}
}

// emptied returns the server without what the case before has left.
func (s *server) emptied(t *testing.T) *server {
	t.Helper()
	for k := range s.seen {
		if err := s.remove(k); err != nil {
			t.Fatal(err)
		}
	}
	s.seen = map[key]bool{}
	return s
}

// serve has the API server know the kinds of a provider: by their real definitions or, where these can't be had, by such as let
// everything pass.
func (s *server) serve(t *testing.T, from *CRDs, p router.Provider) {
	t.Helper()
	var crds []*apiextensionsv1.CustomResourceDefinition
	if from != nil {
		var missing string
		if crds, missing = from.definitions(t); missing != "" {
			t.Logf("any field is let in: %s", missing)
		}
	}
	for _, ref := range p.Resources() {
		known := slices.ContainsFunc(crds, func(crd *apiextensionsv1.CustomResourceDefinition) bool {
			return crd.Spec.Group == ref.Resource.Group && crd.Spec.Names.Plural == ref.Resource.Resource
		})
		if !known && strings.Contains(ref.Resource.Group, ".") && !strings.HasSuffix(ref.Resource.Group, ".k8s.io") {
			crds = append(crds, openDefinition(ref))
		}
	}
	for _, crd := range crds {
		s.define(t, crd)
	}
	s.observe(t, p)
	// Whatever runs next on this server is to find nothing.
	t.Cleanup(func() { s.emptied(t) })
}

// observe does what informers do.
func (s *server) observe(t *testing.T, p router.Provider) {
	t.Helper()
	for _, ref := range p.Resources() {
		client := s.operator.Resource(ref.Resource).Namespace("test")
		if ofCluster(ref) {
			client = s.operator.Resource(ref.Resource)
		}
		_, err := client.List(t.Context(), metav1.ListOptions{})
		if err == nil {
			var w watch.Interface
			if w, err = client.Watch(t.Context(), metav1.ListOptions{}); err == nil {
				w.Stop()
			}
		}
		if err != nil {
			t.Errorf("%s: %v", ref.Resource, err)
		}
	}
}

// ofCluster is whether the objects of a resource have no namespace.
func ofCluster(ref router.Ref) bool { return ref.Resource.Group == "kuma.io" }

// openDefinition is that of a kind with any fields.
func openDefinition(ref router.Ref) *apiextensionsv1.CustomResourceDefinition {
	any := true
	scope := apiextensionsv1.NamespaceScoped
	if ofCluster(ref) {
		scope = apiextensionsv1.ClusterScoped
	}
	return &apiextensionsv1.CustomResourceDefinition{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"},
		ObjectMeta: metav1.ObjectMeta{Name: ref.Resource.GroupResource().String()},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: ref.Resource.Group, Scope: scope,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: ref.Resource.Resource, Singular: strings.ToLower(ref.Kind), Kind: ref.Kind},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: ref.Resource.Version, Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{
					OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &any},
				},
			}},
		},
	}
}

// define creates a definition, or adds the versions that the one there lacks, and waits until it is served.
func (s *server) define(t *testing.T, crd *apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	if err := s.addVersions(t.Context(), crd.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	for _, version := range crd.Spec.Versions {
		if !version.Served {
			continue
		}
		resource := schema.GroupVersionResource{Group: crd.Spec.Group, Version: version.Name, Resource: crd.Spec.Names.Plural}
		err := wait.PollUntilContextCancel(t.Context(), 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			_, err := s.admin.Resource(resource).List(ctx, metav1.ListOptions{})
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			return err == nil, err
		})
		if err != nil {
			t.Fatalf("%s: %v", resource, err)
		}
	}
}

func (s *server) addVersions(ctx context.Context, crd *apiextensionsv1.CustomResourceDefinition) error {
	crds := s.admin.Resource(apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions"))
	// No webhook converts anything here.
	crd.Spec.Conversion, crd.Status = nil, apiextensionsv1.CustomResourceDefinitionStatus{}
	u, err := runtime.DefaultUnstructuredConverter.ToUnstructured(crd)
	if err != nil {
		return err
	}
	if _, err := crds.Create(ctx, &unstructured.Unstructured{Object: u}, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		return err
	}
	live, err := crds.Get(ctx, crd.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	versions, _, err := unstructured.NestedSlice(live.Object, "spec", "versions")
	if err != nil {
		return err
	}
	wanted, _, err := unstructured.NestedSlice(u, "spec", "versions")
	if err != nil {
		return err
	}
	for _, v := range wanted {
		version := v.(map[string]any)
		if !slices.ContainsFunc(versions, func(other any) bool { return other.(map[string]any)["name"] == version["name"] }) {
			version["storage"] = false
			versions = append(versions, version)
		}
	}
	if err := unstructured.SetNestedSlice(live.Object, versions, "spec", "versions"); err != nil {
		return err
	}
	_, err = crds.Update(ctx, live, metav1.UpdateOptions{})
	return err
}

func (s *server) as(who dynamic.Interface, k key) dynamic.ResourceInterface {
	s.seen[k] = true
	if k.namespace == "" {
		return who.Resource(k.GroupVersionResource)
	}
	if !s.namespaces[k.namespace] {
		s.namespaces[k.namespace] = true
		ns := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": k.namespace},
		}}
		// Where it can't be made, what goes there says so.
		_, _ = s.admin.Resource(corev1.SchemeGroupVersion.WithResource("namespaces")).Create(context.Background(), ns, metav1.CreateOptions{})
	}
	return who.Resource(k.GroupVersionResource).Namespace(k.namespace)
}

// bare is an object without the notes of the API server about who wrote which field.
func bare(o *unstructured.Unstructured, err error) (*unstructured.Unstructured, error) {
	if err != nil {
		return nil, err
	}
	o.SetManagedFields(nil)
	return o, nil
}

func (s *server) get(k key) (*unstructured.Unstructured, error) {
	o, err := bare(s.as(s.admin, k).Get(context.Background(), k.name, metav1.GetOptions{}))
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return o, err
}

func (s *server) put(k key, o, old *unstructured.Unstructured) error {
	if old == nil {
		first := o.DeepCopy()
		// Both forms of a class are on an Ingress that got the newer one after it was made: only then may they differ.
		unstructured.RemoveNestedField(first.Object, "spec", "ingressClassName")
		made, err := s.as(s.admin, k).Create(context.Background(), first, metav1.CreateOptions{})
		if err != nil || !has(o, "spec", "ingressClassName") {
			return err
		}
		old = made
	}
	o.SetResourceVersion(old.GetResourceVersion())
	_, err := s.as(s.admin, k).Update(context.Background(), o, metav1.UpdateOptions{})
	return err
}

func has(o *unstructured.Unstructured, path ...string) bool {
	_, ok, _ := unstructured.NestedFieldNoCopy(o.Object, path...)
	return ok
}

// remove deletes an object that finalizers of nobody may keep.
func (s *server) remove(k key) error {
	old, err := s.get(k)
	if err != nil || old == nil {
		return err
	}
	if len(old.GetFinalizers()) > 0 {
		old.SetFinalizers(nil)
		if err := s.put(k, old, old); err != nil {
			return err
		}
	}
	return s.as(s.admin, k).Delete(context.Background(), k.name, metav1.DeleteOptions{})
}

func (s *server) create(k key, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return bare(s.as(s.operator, k).Create(context.Background(), o, metav1.CreateOptions{}))
}

func (s *server) read(k key) (*unstructured.Unstructured, error) {
	return bare(s.as(s.operator, k).Get(context.Background(), k.name, metav1.GetOptions{}))
}

func (s *server) patch(k key, patch []byte) (*unstructured.Unstructured, error) {
	return bare(s.as(s.operator, k).Patch(context.Background(), k.name, types.MergePatchType, patch, metav1.PatchOptions{}))
}

func (s *server) delete(k key) error {
	return s.as(s.operator, k).Delete(context.Background(), k.name, metav1.DeleteOptions{})
}

func (s *server) keys() []key { return slices.Collect(maps.Keys(s.seen)) }
