package nginx_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/ingress"
	"flagger.app/flagger/pkg/router/nginx"
)

// users is an Ingress as users have them: of several hosts and paths, some of which lead to other applications.
const users = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: edge
  namespace: test
  labels: {team: edge}
  annotations:
    kubernetes.io/ingress.class: nginx
    cert-manager.io/cluster-issuer: letsencrypt
    external-dns.alpha.kubernetes.io/hostname: app.example.com
    nginx.ingress.kubernetes.io/configuration-snippet: |
      more_set_headers "x-edge: 1";
    nginx.ingress.kubernetes.io/upstream-vhost: app
    kubectl.kubernetes.io/last-applied-configuration: "{}"
spec:
  ingressClassName: public
  defaultBackend: {service: {name: errors, port: {number: 80}}}
  tls:
  - {hosts: [app.example.com, www.example.com], secretName: app-tls}
  rules:
  - host: app.example.com
    http:
      paths:
      - {path: /api, pathType: Prefix, backend: {service: {name: APEX, port: {name: http}}}}
      - {path: /static, pathType: Prefix, backend: {service: {name: assets, port: {number: 80}}}}
      - {path: /files, pathType: ImplementationSpecific, backend: {resource: {apiGroup: example.com, kind: Bucket, name: files}}}
      - {path: /, pathType: Exact, backend: {service: {name: APEX, port: {number: 9898}}}}
  - host: empty.example.com
  - host: www.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: APEX, port: {number: 9898}}}}
      - {path: /login, pathType: Prefix, backend: {service: {name: login, port: {number: 80}}}}
`

func source(t testing.TB, c *v1beta1.Canary) *unstructured.Unstructured {
	t.Helper()
	return conformance.UsersObject(t, c, users)
}

func shape(c *v1beta1.Canary) {
	c.Spec.IngressRef = &v1beta1.LocalObjectReference{APIVersion: "extensions/v1beta1", Kind: "Ingress", Name: "edge"}
}

func canary(change ...func(*v1beta1.Canary)) *v1beta1.Canary {
	return conformance.Podinfo(append([]func(*v1beta1.Canary){shape}, change...)...)
}

func abTesting(c *v1beta1.Canary) {
	c.Spec.Analysis.Iterations = 10
	c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{
		{Headers: map[string]v1beta1.StringMatch{"x-canary": {Exact: "insider"}}},
		{Headers: map[string]v1beta1.StringMatch{"cookie": {Exact: "beta"}}},
	}
}

func suite(t *testing.T, options nginx.Options) conformance.Case {
	return conformance.Case{
		Provider: nginx.New(options),
		Shape:    shape,
		Sources:  conformance.Users(t, users),
		Match:    canary(abTesting).Spec.Analysis.Match,
		NamedBy:  "spec.ingressRef.name",
		Foreign: map[string][]conformance.Field{"Ingress": {
			{Path: []string{"metadata", "annotations", "external-dns.alpha.kubernetes.io/exclude"}, Value: "true"},
		}},
	}
}

// sharing is for a Canary that is not the only one behind its Ingress.
func sharing(c *v1beta1.Canary) {
	c.Annotations = map[string]string{v1beta1.OwnPathsAnnotation: "true"}
}

func TestConformanceOfASharedIngress(t *testing.T) {
	c := suite(t, nginx.Options{})
	c.Shape = func(c *v1beta1.Canary) { shape(c); sharing(c) }
	conformance.Run(t, c)
}

func TestConformance(t *testing.T) {
	conformance.RunEither(t, func(unowned bool) conformance.Case { return suite(t, nginx.Options{Unowned: unowned}) })
}

// rendered is the canary Ingress of a provider for an Ingress of the user's.
func rendered(t *testing.T, options nginx.Options, c *v1beta1.Canary, traffic router.Traffic, of *unstructured.Unstructured) *networkingv1.Ingress {
	t.Helper()
	store := conformance.NewStore(nil)
	if err := store.Put(ingress.Source(c), of); err != nil {
		t.Fatal(err)
	}
	objects, err := nginx.New(options).Render(c, traffic, store)
	if err != nil {
		t.Fatal(err)
	}
	typed := &networkingv1.Ingress{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(objects[0].Wanted.Object, typed, true); err != nil {
		t.Fatal(err)
	}
	return typed
}

// backends lists host, path and backend of all rules.
func backends(o *networkingv1.Ingress) []string {
	var all []string
	for _, rule := range o.Spec.Rules {
		if rule.HTTP == nil {
			continue
		}
		for _, path := range rule.HTTP.Paths {
			name := "-"
			if path.Backend.Service != nil {
				name = path.Backend.Service.Name
			}
			all = append(all, fmt.Sprintf("%s%s %s", rule.Host, path.Path, name))
		}
	}
	return all
}

// A rule without http made Flagger panic, and of each rule only the first path was led to the canary.
func Test14_EveryPathOfOursLeadsToTheCanary(t *testing.T) {
	c := canary()
	o := rendered(t, nginx.Options{}, c, router.Traffic{Primary: 100}, source(t, c))
	want := []string{
		"app.example.com/api podinfo-canary", "app.example.com/static assets", "app.example.com/files -", "app.example.com/ podinfo-canary",
		"www.example.com/ podinfo-canary", "www.example.com/login login",
	}
	if diff := cmp.Diff(want, backends(o)); diff != "" {
		t.Errorf("backends (-want +got):\n%s", diff)
	}
	if o.Spec.DefaultBackend.Service.Name != "errors" || len(o.Spec.TLS) != 1 {
		t.Errorf("spec %+v, want the default backend and TLS of the user", o.Spec)
	}
}

func TestDefaultBackend(t *testing.T) {
	c := canary()
	of := source(t, c)
	of.Object["spec"] = map[string]any{"defaultBackend": map[string]any{"service": map[string]any{"name": "podinfo"}}}
	if o := rendered(t, nginx.Options{}, c, router.Traffic{Primary: 100}, of); o.Spec.DefaultBackend.Service.Name != "podinfo-canary" {
		t.Errorf("default backend %+v, want the canary", o.Spec.DefaultBackend.Service)
	}
}

func TestClassIsTheUsers(t *testing.T) {
	for _, byField := range []bool{true, false} {
		for _, byAnnotation := range []bool{true, false} {
			c := canary()
			of := source(t, c)
			if !byField {
				unstructured.RemoveNestedField(of.Object, "spec", "ingressClassName")
			}
			if !byAnnotation {
				unstructured.RemoveNestedField(of.Object, "metadata", "annotations", "kubernetes.io/ingress.class")
			}
			o := rendered(t, nginx.Options{}, c, router.Traffic{Primary: 100}, of)
			// The API server creates no Ingress with two classes that differ.
			want := byField && !byAnnotation
			if _, has := o.Annotations["kubernetes.io/ingress.class"]; has != byAnnotation || (o.Spec.IngressClassName != nil) != want {
				t.Errorf("class by field %t and annotation %t: %v %v", byField, byAnnotation, o.Spec.IngressClassName, o.Annotations)
			}
		}
	}
}

func TestAnnotationsPrefix(t *testing.T) {
	options := nginx.Options{AnnotationsPrefix: "custom.example.com"}
	c := canary(abTesting)
	of := source(t, c)
	of.SetAnnotations(map[string]string{"custom.example.com/rewrite-target": "/"})
	for _, traffic := range []router.Traffic{{Primary: 100}, {Primary: 70, Canary: 30}, {Canary: 100, Matched: true}} {
		o := rendered(t, options, c, traffic, of)
		if o.Annotations["custom.example.com/canary"] != "true" || o.Annotations["custom.example.com/rewrite-target"] != "/" {
			t.Errorf("%s: annotations %v, want those with the prefix", traffic, o.Annotations)
		}
		for name := range o.Annotations {
			if strings.HasPrefix(name, nginx.DefaultPrefix) {
				t.Errorf("%s: annotation %s has the default prefix", traffic, name)
			}
		}
	}
	conformance.Run(t, suite(t, options))
}

func TestDroppedAnnotations(t *testing.T) {
	c := canary(func(c *v1beta1.Canary) {
		c.Annotations = map[string]string{ingress.DropAnnotation: "external-dns.alpha.kubernetes.io/*, cert-manager.io/cluster-issuer"}
	})
	o := rendered(t, nginx.Options{}, c, router.Traffic{Primary: 100}, source(t, c))
	for name := range o.Annotations {
		if strings.HasPrefix(name, "external-dns") || strings.HasPrefix(name, "cert-manager") {
			t.Errorf("annotation %s is still there", name)
		}
	}
	if o.Annotations["nginx.ingress.kubernetes.io/upstream-vhost"] != "app" {
		t.Errorf("annotations %v, want the others", o.Annotations)
	}
}

// In Flagger changes of the annotations and labels of the user's Ingress never reached the canary Ingress.
func Test14_ChangesOfTheSourceAreFollowed(t *testing.T) {
	c, store, p := canary(), conformance.NewStore(nil), nginx.New(nginx.Options{})
	applier := router.NewApplier(store, store)
	apply := func(of *unstructured.Unstructured) *unstructured.Unstructured {
		if err := store.Put(ingress.Source(c), of); err != nil {
			t.Fatal(err)
		}
		objects, err := p.Render(c, router.Traffic{Primary: 60, Canary: 40}, store)
		if err == nil {
			err = applier.Apply(t.Context(), c, objects)
		}
		if err != nil {
			t.Fatal(err)
		}
		o, err := store.Get(ingress.Canary(c))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	of := source(t, c)
	apply(of)
	of.SetLabels(map[string]string{"team": "new"})
	annotations := of.GetAnnotations()
	delete(annotations, "nginx.ingress.kubernetes.io/configuration-snippet")
	annotations["nginx.ingress.kubernetes.io/upstream-vhost"] = "new"
	of.SetAnnotations(annotations)
	unstructured.RemoveNestedField(of.Object, "spec", "tls")
	got := apply(of)
	_, snippet := got.GetAnnotations()["nginx.ingress.kubernetes.io/configuration-snippet"]
	if got.GetLabels()["team"] != "new" || got.GetAnnotations()["nginx.ingress.kubernetes.io/upstream-vhost"] != "new" || snippet {
		t.Errorf("labels %v and annotations %v, want those of the user's Ingress", got.GetLabels(), got.GetAnnotations())
	}
	if _, has := got.Object["spec"].(map[string]any)["tls"]; has {
		t.Error("TLS is still there")
	}
	if observed, err := p.Read(c, store); err != nil || observed.Traffic.Canary != 40 {
		t.Errorf("Read() = %+v, %v; want the weights of before", observed, err)
	}
}

func TestFaults(t *testing.T) {
	headers := func(entries ...map[string]v1beta1.StringMatch) func(*v1beta1.Canary) {
		return func(c *v1beta1.Canary) {
			c.Spec.Analysis.Iterations = 10
			for _, h := range entries {
				c.Spec.Analysis.Match = append(c.Spec.Analysis.Match, v1beta1.AnalysisMatch{Headers: h})
			}
		}
	}
	exact := v1beta1.StringMatch{Exact: "x"}
	tests := map[string]struct {
		shape func(*v1beta1.Canary)
		field string
	}{
		"no reference":    {func(c *v1beta1.Canary) { c.Spec.IngressRef = nil }, "spec.ingressRef.name"},
		"no such Ingress": {func(c *v1beta1.Canary) { c.Spec.IngressRef.Name = "other" }, "spec.ingressRef.name"},
		"no such backend": {func(c *v1beta1.Canary) { c.Spec.Service.Name = "other" }, "spec.ingressRef.name"},
		"share of a match": {func(c *v1beta1.Canary) {
			abTesting(c)
			c.Spec.Analysis.Iterations = 0
		}, "spec.analysis.match"},
		"two headers":     {headers(map[string]v1beta1.StringMatch{"a": exact, "b": exact}), "spec.analysis.match[0].headers[b]"},
		"two cookies":     {headers(map[string]v1beta1.StringMatch{"cookie": exact}, map[string]v1beta1.StringMatch{"cookie": exact}), "spec.analysis.match[1].headers[cookie]"},
		"cookie by regex": {headers(map[string]v1beta1.StringMatch{"cookie": {Regex: "x"}}), "spec.analysis.match[0].headers[cookie]"},
		"no condition":    {headers(nil), "spec.analysis.match[0]"},
		"source labels": {func(c *v1beta1.Canary) {
			headers(nil)(c)
			c.Spec.Analysis.Match[0].SourceLabels = map[string]string{"a": "b"}
		}, "spec.analysis.match[0].sourceLabels"},
		"query": {func(c *v1beta1.Canary) {
			headers(nil)(c)
			c.Spec.Analysis.Match[0].QueryParams = map[string]v1beta1.StringMatch{"a": exact}
		}, "spec.analysis.match[0].queryParams"},
	}
	store := conformance.NewStore(nil)
	if err := store.Put(ingress.Source(canary()), source(t, canary())); err != nil {
		t.Fatal(err)
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := nginx.New(nginx.Options{}).Render(canary(test.shape), router.Traffic{Primary: 100}, store)
			var fault *router.FieldError
			if !errors.As(err, &fault) || fault.Field != test.field {
				t.Errorf("Render(): %v, want a fault of %s", err, test.field)
			}
		})
	}
}

func TestUnreadable(t *testing.T) {
	c, p := canary(), nginx.New(nginx.Options{})
	for name, annotations := range map[string]map[string]string{
		"no canary":     {"nginx.ingress.kubernetes.io/canary": "false"},
		"no number":     {"nginx.ingress.kubernetes.io/canary": "true", "nginx.ingress.kubernetes.io/canary-weight": "x"},
		"no percent":    {"nginx.ingress.kubernetes.io/canary": "true", "nginx.ingress.kubernetes.io/canary-weight": "130"},
		"no annotation": nil,
	} {
		store := conformance.NewStore(nil)
		o := router.NewObject(ingress.Canary(c), nil, annotations, nil)
		if err := store.Put(ingress.Canary(c), o); err != nil {
			t.Fatal(err)
		}
		if observed, err := p.Read(c, store); !errors.Is(err, router.ErrUnreadable) {
			t.Errorf("%s: Read() = %+v, %v; want ErrUnreadable", name, observed, err)
		}
	}
}

// Linkerd follows the header whatever NGINX has chosen, so that Flagger went to 100 % of nothing.
func TestLinkerdOverrideIsTold(t *testing.T) {
	c, p := canary(), nginx.New(nginx.Options{})
	of := source(t, c)
	store := conformance.NewStore(nil)
	for _, override := range []bool{false, true} {
		if override {
			of.SetAnnotations(map[string]string{
				"nginx.ingress.kubernetes.io/configuration-snippet": "proxy_set_header l5d-dst-override podinfo.test.svc.cluster.local:9898;",
			})
		}
		if err := store.Put(ingress.Source(c), of); err != nil {
			t.Fatal(err)
		}
		told := slices.ContainsFunc(router.Advice(p, c, store), func(s string) bool { return strings.Contains(s, "service-upstream") })
		if told != override {
			t.Errorf("override %t: advice %q", override, router.Advice(p, c, store))
		}
	}
}

// A user deletes the Ingress together with the Canary: what was made is still known.
func TestOutlineNeedsNoSource(t *testing.T) {
	c, p := canary(), nginx.New(nginx.Options{})
	outline, err := router.Outline(c, p, "podinfo", conformance.NewStore(nil))
	if err != nil || len(outline) != 1 || outline[0].Ref.Name != "edge-canary" {
		t.Errorf("Outline() = %+v, %v; want edge-canary", outline, err)
	}
	outline, err = router.Outline(canary(sharing), p, "podinfo", conformance.NewStore(nil))
	if err != nil || len(outline) != 2 || outline[1].Ref.Name != "edge-podinfo-canary" {
		t.Errorf("Outline() = %+v, %v; want edge-podinfo-canary as well", outline, err)
	}
}
