package docs

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router/conformance"
)

// manifests are the documents of all blocks of YAML, by the page that they stand on.
func manifests(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for path, text := range pages(t) {
		for _, block := range yamlBlock.FindAllStringSubmatch(text, -1) {
			found[path] = append(found[path], strings.Split(block[1], "\n---\n")...)
		}
	}
	return found
}

// Our manifests have only fields that exist, and say what can be done. The suite on a real API server applies all the others as well.
func TestManifests(t *testing.T) {
	seen := 0
	for path, documents := range manifests(t) {
		for _, document := range documents {
			u := &unstructured.Unstructured{}
			if err := yaml.UnmarshalStrict([]byte(document), &u.Object); err != nil {
				t.Errorf("%s: %v in\n%s", path, err, document)
				continue
			}
			if u.GroupVersionKind().Group != v1beta1.SchemeGroupVersion.Group {
				continue
			}
			seen++
			if err := checkOurs(u.GetKind(), document); err != nil {
				t.Errorf("%s: %v in\n%s", path, err, document)
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d manifests", seen)
	}
}

func checkOurs(kind, document string) error {
	switch kind {
	case "Canary":
		c := &v1beta1.Canary{}
		if err := yaml.UnmarshalStrict([]byte(document), c); err != nil {
			return err
		}
		return v1beta1.Validate(c, v1beta1.ValidationOptions{Provider: v1beta1.IstioProvider}).ToAggregate()
	case "MetricTemplate":
		return yaml.UnmarshalStrict([]byte(document), &v1beta1.MetricTemplate{})
	default:
		return yaml.UnmarshalStrict([]byte(document), &v1beta1.AlertProvider{})
	}
}

// foreign is where those who own the kinds of the tutorials publish their schema.
func foreign() []conformance.CRDs {
	const gloo, knative = "install/helm/gloo/crds/", "config/core/300-resources/"
	return []conformance.CRDs{
		{Module: "sigs.k8s.io/gateway-api", File: "config/crd/standard/gateway.networking.k8s.io_gateways.yaml"},
		{Module: "istio.io/api", File: "kubernetes/customresourcedefinitions.gen.yaml"},
		{Module: "github.com/projectcontour/contour", Version: "v1.33.8", File: "examples/contour/01-crds.yaml"},
		{Module: "github.com/traefik/traefik/v3", Version: "v3.6.0", File: "docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml"},
		{Module: "github.com/apache/apisix-ingress-controller", Version: "v1.8.4", File: "samples/deploy/crd/v1/ApisixRoute.yaml"},
		{Module: "github.com/solo-io/gloo", Version: "v1.22.1", File: gloo + "gateway.solo.io_v1_VirtualService.yaml"},
		{Module: "github.com/kedacore/keda/v2", Version: "v2.21.0", File: "config/crd/bases/keda.sh_scaledobjects.yaml"},
		{Module: "knative.dev/serving", Version: "v0.51.0", File: knative + "service.yaml"},
	}
}

// What tutorials show of the kinds of others is what these admit, without a field that they don't know. A project whose module can't be
// had is left out.
func TestManifestsOfOthers(t *testing.T) {
	for _, from := range foreign() {
		t.Run(from.Module, func(t *testing.T) {
			schemas, checked := conformance.LoadSchemas(t, from), 0
			for path, documents := range manifests(t) {
				if !strings.HasPrefix(path, "../docs/tutorials/") {
					continue
				}
				for _, document := range documents {
					// Numbers are integers there, as they come from the API server.
					u := &unstructured.Unstructured{}
					raw, err := yaml.YAMLToJSON([]byte(document))
					if err == nil {
						err = u.UnmarshalJSON(raw)
					}
					if err != nil {
						t.Fatal(err)
					}
					if !schemas.Has(u.GroupVersionKind()) {
						continue
					}
					checked++
					if err := schemas.Admit(u); err != nil {
						t.Errorf("%s: %v in\n%s", path, err, document)
					}
				}
			}
			if checked == 0 {
				t.Error("no tutorial has a kind of this project")
			}
		})
	}
}

// Tutorials tell what was seen of a provider, as the page about conformance does.
func TestTutorialsSayWhatWasSeen(t *testing.T) {
	all := pages(t)
	best := func(provider string) string {
		for line := range strings.Lines(all["../docs/conformance.md"]) {
			if strings.HasPrefix(line, "| `"+provider+"` |") {
				for _, mark := range []string{"real data plane", "real controller", "API only"} {
					if strings.Contains(line, "| "+mark+" |") {
						return mark
					}
				}
			}
		}
		return ""
	}
	var told []string
	for path, text := range all {
		_, rest, found := strings.Cut(text, "Seen in the tests, with provider `")
		if !found {
			continue
		}
		provider, rest, _ := strings.Cut(rest, "`: **")
		mark, _, _ := strings.Cut(rest, "**")
		if want := best(provider); mark != want || want == "" {
			t.Errorf("%s says %q of provider %q, which was seen by %q", path, mark, provider, want)
		}
		told = append(told, provider)
	}
	slices.Sort(told)
	if len(slices.Compact(told)) < 12 {
		t.Errorf("tutorials of %q", told)
	}
}

// The events that pages show are events that there are.
func TestEventsThatPagesShow(t *testing.T) {
	known := append(texts(t, "../pkg/rollout", event), checksThatHalt()...)
	known = append(known, "… not ready: …", "canary … … not ready: …")
	for path, text := range pages(t) {
		for line := range strings.Lines(text) {
			_, message, found := strings.Cut(strings.TrimSpace(line), "  Synced  ")
			if !found {
				continue
			}
			if !slices.ContainsFunc(known, func(pattern string) bool { return matches(pattern, message) }) {
				t.Errorf("%s shows an event that nobody tells: %s", path, message)
			}
		}
	}
}

func checksThatHalt() []string {
	return []string{"Halt … advancement success rate …% < …%", "Halt … advancement … < …"}
}

// matches is whether a text is one of a pattern, in which … stands for any text.
func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "…")
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	for i, part := range parts[1:] {
		if i == len(parts)-2 {
			return strings.HasSuffix(text, part)
		}
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return text == ""
}
