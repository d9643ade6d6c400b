package charts

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/router/registry"
)

// grants are what rules allow, one verb of one resource each.
type grants map[string]bool

func grantsOf(rules []rbacv1.PolicyRule) grants {
	all := grants{}
	for _, rule := range rules {
		for _, verb := range rule.Verbs {
			for _, url := range rule.NonResourceURLs {
				all[verb+" "+url] = true
			}
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					all[fmt.Sprintf("%s %s.%s", verb, resource, group)] = true
				}
			}
		}
	}
	return all
}

// without returns what another one does not allow, sorted.
func (g grants) without(other grants) []string {
	var missing []string
	for _, grant := range slices.Sorted(maps.Keys(g)) {
		if !other[grant] {
			missing = append(missing, grant)
		}
	}
	return missing
}

// granted is what an account may do by roles of both kinds.
func granted(t *testing.T, objects []*unstructured.Unstructured) grants {
	t.Helper()
	var rules []rbacv1.PolicyRule
	for _, u := range objects {
		if (u.GetKind() != "Role" && u.GetKind() != "ClusterRole") || strings.HasSuffix(u.GetName(), "-prometheus") {
			continue
		}
		role := &rbacv1.ClusterRole{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, role, true); err != nil {
			t.Fatal(err)
		}
		rules = append(rules, role.Rules...)
	}
	return grantsOf(rules)
}

func rendered(t *testing.T, values string) []*unstructured.Unstructured {
	t.Helper()
	objects, _ := render(t, "flagger", cluster{}, values)
	return objects
}

// published is what artifacts/flagger/account.yaml allows, which Kustomize installs as well.
func published(t *testing.T) grants {
	t.Helper()
	return granted(t, decode(t, "account.yaml", readFile(t, "../../artifacts/flagger/account.yaml")))
}

func TestRoleOfAllProvidersIsThePublishedOne(t *testing.T) {
	want := published(t)
	for _, values := range []string{
		``,
		`{meshProvider: contour, rbac: {providers: ["*"]}}`,
	} {
		got := granted(t, rendered(t, values))
		if more, less := got.without(want), want.without(got); len(more)+len(less) > 0 {
			t.Errorf("%s: the chart allows beside artifacts/flagger/account.yaml %v, and lacks %v", values, more, less)
		}
	}
}

// own are the groups of what the providers make, beside what every one needs.
var own = []string{
	"extensions", "networking.k8s.io", "networking.istio.io", "appmesh.k8s.aws", "split.smi-spec.io", "specs.smi-spec.io", "gloo.solo.io",
	"gateway.solo.io", "projectcontour.io", "traefik.io", "kuma.io", "gateway.networking.k8s.io", "apisix.apache.org", "serving.knative.dev",
}

// A role covers all that its provider makes and reads, and what others need only where they need the same. The conformance kit lets a
// provider ask for nothing but its resources, so each action of the kit is allowed as well.
func TestRoleOfEachProvider(t *testing.T) {
	providers := registry.New(registry.Config{})
	none := granted(t, rendered(t, `meshProvider: kubernetes`))
	all := published(t)
	for grant := range none {
		if slices.ContainsFunc(own, func(group string) bool { return strings.HasSuffix(grant, "."+group) }) {
			t.Errorf("provider kubernetes makes no routes and may %s", grant)
		}
	}
	for _, name := range append(providers.Names(), "smi:v1alpha2:osm", "gloo:v1", "appmesh:v1beta2") {
		t.Run(name, func(t *testing.T) {
			provider, err := providers.Provider(name)
			if err != nil {
				t.Fatal(err)
			}
			got := granted(t, rendered(t, `meshProvider: "`+name+`"`))
			groups := map[string]bool{}
			for _, ref := range provider.Resources() {
				groups[ref.Resource.Group] = true
				verbs := []string{"get", "list", "watch", "create", "update", "patch", "delete"}
				if ref.Resource.Group == "serving.knative.dev" {
					// The Service is the user's own: it is never made and never deleted.
					verbs = []string{"get", "list", "watch", "update", "patch"}
				}
				for _, verb := range verbs {
					if grant := fmt.Sprintf("%s %s.%s", verb, ref.Resource.Resource, ref.Resource.Group); !got[grant] {
						t.Errorf("the role does not allow %s", grant)
					}
				}
			}
			if more := got.without(all); len(more) > 0 {
				t.Errorf("the role allows more than that of all providers: %v", more)
			}
			for _, grant := range got.without(none) {
				_, group, _ := strings.Cut(grant, ".")
				if !groups[group] && group != "extensions" && group != "specs.smi-spec.io" {
					t.Errorf("the role allows %s, which %s does not need", grant, name)
				}
			}
			if namespaced := granted(t, rendered(t, `{namespace: shop, meshProvider: "`+name+`"}`)); len(got.without(namespaced)) > 1 {
				t.Errorf("in one namespace the roles lack %v", got.without(namespaced))
			}
			second := granted(t, rendered(t, `{meshProvider: kubernetes, rbac: {providers: ["`+name+`"]}}`))
			if diff := append(got.without(second), second.without(got)...); len(diff) > 0 {
				t.Errorf("as a second provider it gets another role: %v", diff)
			}
		})
	}
}

// The account with its roles for one provider each, in testdata, is what a test of the operator plays the conformance kit under. That of
// a provider without routes is among them.
func TestAccountOfEachProvider(t *testing.T) {
	for _, name := range []string{
		"apisix", "appmesh", "contour", "gatewayapi:v1", "gloo", "istio", "knative", "kubernetes", "kuma", "linkerd", "nginx", "traefik",
	} {
		var account []*unstructured.Unstructured
		for _, u := range rendered(t, `meshProvider: "`+name+`"`) {
			if u.GetKind() == "ServiceAccount" || strings.Contains(u.GetKind(), "Role") {
				account = append(account, u)
			}
		}
		golden(t, filepath.Join("testdata", "roles", strings.ReplaceAll(name, ":", "_")+".yaml"), text(t, account))
	}
}

// The provider of a Canary without one is known to the schema, and no other name is.
func TestSchemaKnowsAllProviders(t *testing.T) {
	for _, name := range registry.New(registry.Config{}).Names() {
		objects := rendered(t, `meshProvider: "`+name+`"`)
		if got := flagsOf(t, objects, "flagger")["-mesh-provider"]; got != name {
			t.Errorf("-mesh-provider=%s, want %s", got, name)
		}
	}
}

// Who does not copy Secrets may not list them, nor write any.
func TestRoleWithoutConfigTracking(t *testing.T) {
	for _, grant := range granted(t, rendered(t, `configTracking: {enabled: false}`)).without(grants{"get secrets.": true}) {
		if strings.Contains(grant, "secrets") || strings.Contains(grant, "configmaps") {
			t.Errorf("allowed: %s", grant)
		}
	}
}
