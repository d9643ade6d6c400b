package metrics

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/registry"
)

// labelsOf tells, for each provider that makes objects whose names come back in series, by which labels its proxies count the requests
// of one side: written from what the router has made, and from how the system names what it finds there.
func labelsOf() map[string]func(t *testing.T, objects []router.Object, service string) labels {
	find := func(t *testing.T, objects []router.Object, kind string, path ...string) []any {
		t.Helper()
		for _, o := range objects {
			if o.Ref.Kind != kind {
				continue
			}
			if list, ok, err := unstructured.NestedSlice(o.Wanted.Object, path...); err == nil && ok {
				return list
			}
		}
		t.Fatalf("no %s with %v", kind, path)
		return nil
	}
	// mentioning is the entry of a list that names a service.
	mentioning := func(t *testing.T, list []any, service string) map[string]any {
		t.Helper()
		for _, item := range list {
			if strings.Contains(fmt.Sprint(item), service) {
				return item.(map[string]any)
			}
		}
		t.Fatalf("%v does not name %s", list, service)
		return nil
	}
	backend := func(path any) (name, port string) {
		service := path.(map[string]any)["backend"].(map[string]any)["service"].(map[string]any)
		return service["name"].(string), fmt.Sprint(service["port"].(map[string]any)["number"])
	}
	paths := func(t *testing.T, objects []router.Object, service string) map[string]any {
		t.Helper()
		rules := find(t, objects, "Ingress", "spec", "rules")
		http := rules[0].(map[string]any)["http"].(map[string]any)
		return mentioning(t, http["paths"].([]any), service)
	}
	return map[string]func(*testing.T, []router.Object, string) labels{
		v1beta1.GlooProvider: func(t *testing.T, objects []router.Object, service string) labels {
			for _, o := range objects {
				if kube, _, _ := unstructured.NestedString(o.Wanted.Object, "spec", "kube", "serviceName"); kube == service {
					return labels{"envoy_cluster_name": o.Ref.Name + "_" + o.Ref.Namespace}
				}
			}
			t.Fatalf("no Upstream leads to %s", service)
			return nil
		},
		v1beta1.ContourProvider: func(t *testing.T, objects []router.Object, service string) labels {
			route := find(t, objects, "HTTPProxy", "spec", "routes")[0].(map[string]any)
			entry := mentioning(t, route["services"].([]any), service)
			return labels{"envoy_cluster_name": fmt.Sprintf("%s_%v_%v", objects[0].Ref.Namespace, entry["name"], entry["port"])}
		},
		v1beta1.KumaProvider: func(t *testing.T, objects []router.Object, service string) labels {
			entry := mentioning(t, find(t, objects, "TrafficRoute", "spec", "conf", "split"), service)
			return labels{"service": entry["destination"].(map[string]any)["kuma.io/service"].(string)}
		},
		v1beta1.TraefikProvider: func(t *testing.T, objects []router.Object, service string) labels {
			entry := mentioning(t, find(t, objects, "TraefikService", "spec", "weighted", "services"), service)
			return labels{"service": fmt.Sprintf("%v-%v-%v@kubernetescrd", entry["namespace"], entry["name"], entry["port"]), "le": "+Inf"}
		},
		v1beta1.SkipperProvider: func(t *testing.T, objects []router.Object, service string) labels {
			name, _ := backend(paths(t, objects, service))
			word := regexp.MustCompile(`\W`)
			var parts []any
			for _, part := range []string{objects[0].Ref.Namespace, objects[0].Ref.Name, "app.example.com", "/", name} {
				parts = append(parts, word.ReplaceAllString(part, "_"))
			}
			return labels{"route": fmt.Sprintf("kube_%s__%s__%s___%s__%s", parts...), "le": "+Inf"}
		},
		v1beta1.NGINXProvider: func(t *testing.T, objects []router.Object, service string) labels {
			labels := labels{
				"namespace": objects[0].Ref.Namespace, "ingress": strings.TrimSuffix(objects[0].Ref.Name, "-canary"),
				// All requests to a path are under the Service that the user's Ingress has there.
				"service": service[:strings.LastIndex(service, "-")],
			}
			if strings.HasSuffix(service, "-primary") {
				labels["canary"] = ""
				return labels
			}
			name, port := backend(paths(t, objects, service))
			labels["canary"] = fmt.Sprintf("%s-%s-%s", objects[0].Ref.Namespace, name, port)
			return labels
		},
	}
}

// Built-in queries find what the router has made for the side that they are about, whatever the names are, and nothing of the other
// side: those of Gloo, Kuma and APISIX were built from the name of the target in Flagger, and those of a tutorial from an earlier name.
func TestQueriesFindWhatTheRouterMakes(t *testing.T) {
	names := []struct{ namespace, target, service, ingress string }{
		{"test", "podinfo", "", "podinfo"},
		{"test", "podinfo-v2", "podinfo", "edge"},
		{"team-a", "backend", "shop", "edge.example.com"},
		{"a-b-c", "x", "canary", "canary"},
		{"team-1", "shop-primary-api", "shop-canary-api", "shop-ingress"},
	}
	providers := registry.New(registry.Config{})
	for provider, exported := range labelsOf() {
		p, err := providers.Provider(provider)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			t.Run(provider+"/"+n.namespace+"/"+n.target, func(t *testing.T) {
				c := conformance.Podinfo(conformance.Routable, func(c *v1beta1.Canary) {
					c.Namespace, c.Spec.TargetRef.Name, c.Spec.Service.Name = n.namespace, n.target, n.service
					c.Spec.IngressRef.Name = n.ingress
				})
				store := conformance.NewStore(nil)
				for ref, o := range conformance.Exposing(t, p, c) {
					if err := store.Put(ref, o); err != nil {
						t.Fatal(err)
					}
				}
				objects, err := p.Render(c, router.Traffic{Primary: 70, Canary: 30}, store)
				if err != nil {
					t.Fatal(err)
				}
				service := router.NamesOf(c)
				of := map[bool]labels{false: exported(t, objects, service.Canary), true: exported(t, objects, service.Primary)}
				vars := NewVars(c, v1beta1.CanaryMetric{})
				for _, primary := range []bool{false, true} {
					vars.Primary = primary
					o := observers()[provider]()
					for _, text := range []string{o.successRate(), o.latency} {
						query, err := render(text, builtInFunctions(vars))
						if err != nil {
							t.Fatal(err)
						}
						if !selects(t, query, of[primary]) {
							t.Errorf("primary %t: %s\ndoes not find %v", primary, query, of[primary])
						}
						if selects(t, query, of[!primary]) {
							t.Errorf("primary %t: %s\nfinds %v of the other side", primary, query, of[!primary])
						}
					}
				}
			})
		}
	}
}

// Whoever finds no values has to know which labels a scrape configuration must not rename or drop.
func TestLabelsOfBuiltInMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, observed := range observers() {
		o := observed()
		named := map[string]bool{}
		matchers, err := render(o.matchers+", "+o.good, builtInFunctions(Vars{}))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range matcher.FindAllStringSubmatch(matchers, -1) {
			if m[1] != "le" {
				named["`"+m[1]+"`"] = true
			}
		}
		if name == "http" {
			name = "kubernetes`, `gatewayapi"
		}
		row := fmt.Sprintf("| `%s` | `%s` | %s |", name, o.requests, strings.Join(slices.Sorted(maps.Keys(named)), ", "))
		if !strings.Contains(string(page), "\n"+row+"\n") {
			t.Errorf("docs/troubleshooting.md lacks the row\n%s", row)
		}
	}
}

// Behind one Ingress are several applications. Requests of others are never those of the primary and, where they have canaries there as
// well, not those of the canary.
func TestQueriesOfASharedIngress(t *testing.T) {
	series := func(service, upstream string) labels {
		return labels{"namespace": "test", "ingress": "edge", "service": service, "canary": upstream}
	}
	for _, shared := range []bool{false, true} {
		c := canary(func(c *v1beta1.Canary) {
			c.Spec.IngressRef = &v1beta1.LocalObjectReference{Name: "edge"}
			c.Annotations = map[string]string{v1beta1.OwnPathsAnnotation: fmt.Sprint(shared)}
		})
		vars := NewVars(c, v1beta1.CanaryMetric{})
		for _, primary := range []bool{false, true} {
			vars.Primary = primary
			query, err := render(observers()[v1beta1.NGINXProvider]().successRate(), builtInFunctions(vars))
			if err != nil {
				t.Fatal(err)
			}
			for _, test := range []struct {
				series labels
				want   bool
			}{
				{series("podinfo", ""), primary},
				{series("podinfo", "test-podinfo-canary-9898"), !primary},
				{series("login", ""), false},
				{series("login", "test-login-canary-80"), !primary && !shared},
			} {
				if got := selects(t, query, test.series); got != test.want {
					t.Errorf("shared %t, primary %t: %s finds %v: %t", shared, primary, query, test.series, got)
				}
			}
		}
	}
}
