package registry_test

import (
	"errors"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/registry"
)

// Canaries of two applications, and of one application in two namespaces, are in one cluster and in one mesh: none has an object of
// another, and none changes the traffic of another. In Flagger names of routers, of a cluster-scoped route and of copies collided.
func TestCanariesShareNoObject(t *testing.T) {
	named := func(namespace, name, exposed string, uid types.UID) *v1beta1.Canary {
		return conformance.Podinfo(conformance.Routable, func(c *v1beta1.Canary) {
			c.Namespace, c.Name, c.UID, c.Spec.TargetRef.Name = namespace, name, uid, name
			c.Spec.IngressRef.Name, c.Spec.RouteRef.Name = exposed, exposed
		})
	}
	providers := registry.New(registry.Config{})
	for _, name := range providers.Names() {
		t.Run(name, func(t *testing.T) {
			p, err := providers.Provider(name)
			if err != nil {
				t.Fatal(err)
			}
			if name == v1beta1.KnativeProvider || len(p.Resources()) == 0 {
				t.Skip("it makes no objects")
			}
			first := conformance.NewBench(t, p, named("test", "podinfo", "podinfo", "1"))
			benches := []*conformance.Bench{
				first, first.Of(named("test", "login", "login", "2")), first.Of(named("other", "podinfo", "podinfo", "3")),
			}
			whose := map[router.Ref]int{}
			for i, b := range benches {
				for ref, o := range conformance.Exposing(t, p, b.Canary) {
					o.SetName(ref.Name)
					o.SetNamespace(ref.Namespace)
					if err := b.Store.Put(ref, o); err != nil {
						t.Fatal(err)
					}
				}
				objects, err := b.TryApply(router.Traffic{Primary: 90 - int32(i), Canary: 10 + int32(i)})
				if err != nil {
					t.Fatalf("Canary %s.%s: %v", b.Canary.Name, b.Canary.Namespace, err)
				}
				for _, o := range objects {
					if owner, taken := whose[o.Ref]; taken {
						t.Errorf("%s is an object of Canary %d and of Canary %d", o.Ref, owner, i)
					}
					whose[o.Ref] = i
				}
			}
			for i, b := range benches {
				observed, err := p.Read(b.Canary, b.Store)
				if err != nil || observed.Traffic.Canary != 10+int32(i) {
					t.Errorf("Canary %d gets %+v, %v", i, observed.Traffic, err)
				}
				if _, err := b.TryApply(router.Traffic{Primary: 90 - int32(i), Canary: 10 + int32(i)}); err != nil {
					t.Errorf("Canary %d: %v", i, err)
				}
			}
			if writes := first.Store.Writes(); len(writes) != len(whose) {
				t.Errorf("%d writes for %d objects: %v", len(writes), len(whose), writes)
			}
		})
	}
}

// What a user has not made yet is named with its namespace, and so is who makes it.
func TestMissingObjectsOfUsersAreNamed(t *testing.T) {
	providers, upstream := registry.New(registry.Config{}), &v1beta1.CrossNamespaceObjectReference{Name: "model", Namespace: "gloo"}
	for name, want := range map[string]string{
		v1beta1.NGINXProvider:   "Ingress podinfo.test does not exist: create it with a path to the Service podinfo, or correct the name",
		v1beta1.SkipperProvider: "Ingress podinfo.test does not exist: create it with a path to the Service podinfo, or correct the name",
		v1beta1.ApisixProvider:  "ApisixRoute podinfo.test does not exist: create it with a rule for the Service podinfo, or correct the name",
		v1beta1.GlooProvider:    "Upstream model.gloo does not exist: create it",
	} {
		p, err := providers.Provider(name)
		if err != nil {
			t.Fatal(err)
		}
		c := conformance.Podinfo(conformance.Routable, func(c *v1beta1.Canary) { c.Spec.UpstreamRef = upstream })
		_, err = p.Render(c, router.Traffic{Primary: 100}, conformance.NewStore(nil))
		var fault *router.FieldError
		if !errors.As(err, &fault) || len(fault.Message) < len(want) || fault.Message[:len(want)] != want {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
