package controller

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/registry"
)

// wish is a field that not every provider can serve.
type wish struct {
	// field is where the Canary asks for it.
	field string
	ask   func(*v1beta1.Canary)
	// traffic is that of a step in which it counts.
	traffic router.Traffic
	// words are in the objects of a provider that serves it. Without any, its objects differ from those for less.
	words []string
	less  func(*v1beta1.Canary)
}

func matching(matches ...v1beta1.AnalysisMatch) func(*v1beta1.Canary) {
	return func(c *v1beta1.Canary) {
		c.Spec.Analysis = &v1beta1.CanaryAnalysis{Interval: "1m", Threshold: 5, Iterations: 10, Match: matches}
	}
}

func header(name, value string) v1beta1.AnalysisMatch {
	return v1beta1.AnalysisMatch{Headers: map[string]v1beta1.StringMatch{name: {Exact: value}}}
}

func wishes() map[string]wish {
	matched := router.Traffic{Canary: 100, Matched: true}
	cookies := router.Traffic{Primary: 90, Canary: 10, Cookies: router.Cookies{Canary: "side=pinned", Primary: "first=fixed"}}
	affinity := func(primary string) func(*v1beta1.Canary) {
		return func(c *v1beta1.Canary) {
			c.Spec.Analysis.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "side", PrimaryCookieName: primary, MaxAge: 60}
		}
	}
	mirror := func(weight int32) func(*v1beta1.Canary) {
		return func(c *v1beta1.Canary) { c.Spec.Analysis.Mirror, c.Spec.Analysis.MirrorWeight = true, weight }
	}
	return map[string]wish{
		"match": {field: "spec.analysis.match", ask: matching(header("x-kit", "insider")), traffic: matched, words: []string{"insider"}},
		"several matches": {field: "spec.analysis.match", ask: matching(header("x-one", "insider"), header("x-two", "tester")), traffic: matched,
			words: []string{"insider", "tester"}},
		"query parameters": {field: "spec.analysis.match", ask: matching(v1beta1.AnalysisMatch{
			QueryParams: map[string]v1beta1.StringMatch{"kit": {Exact: "insider"}},
		}), traffic: matched, words: []string{"insider"}},
		"source labels": {field: "spec.analysis.match", ask: matching(v1beta1.AnalysisMatch{
			SourceLabels: map[string]string{"kit": "insider"},
		}), traffic: matched, words: []string{"insider"}},
		"mirror":       {field: "spec.analysis.mirror", ask: mirror(0), traffic: router.Traffic{Primary: 100, Mirror: true}},
		"mirrorWeight": {field: "spec.analysis.mirror", ask: mirror(25), less: mirror(0), traffic: router.Traffic{Primary: 100, Mirror: true}},
		"sessionAffinity": {field: "spec.analysis.sessionAffinity", ask: affinity(""), traffic: router.Traffic{
			Primary: 90, Canary: 10, Cookies: router.Cookies{Canary: "side=pinned"},
		}, words: []string{"pinned"}},
		"primaryCookieName": {field: "spec.analysis.sessionAffinity", ask: affinity("first"), traffic: cookies, words: []string{"pinned", "fixed"}},
		"TCP": {field: "spec.service.appProtocol", ask: func(c *v1beta1.Canary) { c.Spec.Service.AppProtocol = "TCP" },
			traffic: router.Traffic{Primary: 70, Canary: 30}, words: []string{`"tcp"`}},
	}
}

// A Canary that asks for what its provider can't do says so, with the field, before any rollout; all else is in the objects.
func TestNothingIsIgnoredInSilence(t *testing.T) {
	providers := registry.New(registry.Config{})
	for _, name := range providers.Names() {
		if name == v1beta1.ExternalProvider || name == v1beta1.KnativeProvider {
			continue
		}
		p, err := providers.Provider(name)
		if err != nil {
			t.Fatal(err)
		}
		for what, w := range wishes() {
			// A Service forwards any connection.
			if what == "TCP" && !p.Abilities().Routes {
				continue
			}
			t.Run(name+"/"+what, func(t *testing.T) {
				told := toldOf(t, name, p, w)
				if told != "" && strings.Contains(told, w.field) {
					return
				}
				if told != "" {
					t.Fatalf("told %q, want one that names %s", told, w.field)
				}
				if !serves(t, name, p, w) {
					t.Errorf("nothing is said, and the objects say nothing of it")
				}
			})
		}
	}
}

// asking is a Canary of a provider that asks for something.
func asking(provider string, ask func(*v1beta1.Canary)) *v1beta1.Canary {
	return conformance.Podinfo(conformance.Routable, ask, func(c *v1beta1.Canary) {
		c.Spec.Provider = provider
		if provider == v1beta1.TraefikProvider {
			c.Spec.IngressRef.Kind = "IngressRoute"
		}
	})
}

// toldOf is what the user is told of a Canary at rest that asks for something, empty if there is nothing to be told.
func toldOf(t *testing.T, name string, p router.Provider, w wish) string {
	t.Helper()
	c := asking(name, w.ask)
	if faults := router.CheckAbilities(c, p.Abilities()); len(faults) > 0 {
		return faults[0].Error()
	}
	if _, err := render(t, p, c, w.traffic); err != nil {
		var fault *router.FieldError
		if !errors.As(err, &fault) {
			t.Fatalf("Render(): %v, want a fault of a field", err)
		}
		return err.Error()
	}
	ready := rollout.Workload{Exists: true, Name: "podinfo", Kind: "Deployment", Replicas: 1, Available: 1,
		Revision: rollout.Revision{Fingerprint: "v2:1", UID: "1", Generation: 1, Counter: "1"}, Health: rollout.Health{State: rollout.Ready}}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	revision := &v1beta1.RevisionRef{Fingerprint: "v2:1", UID: "1", Generation: 1, Counter: "1"}
	c.Status = v1beta1.CanaryStatus{Phase: v1beta1.CanaryPhaseInitialized, Rollout: &v1beta1.RolloutStatus{
		Target: revision, Promoted: revision, StageStartedAt: &metav1.MicroTime{Time: now.Add(-time.Minute)},
		Routing: []v1beta1.RoutingRef{{Service: "podinfo", Provider: name}},
	}}
	fact := providerFact(name, p.Abilities())
	fact.Warnings = router.Advice(p, c, conformance.NewStore(nil))
	primary := ready
	primary.Name, primary.Copy = "podinfo-primary", ready.Revision.Fingerprint
	decision := rollout.Decide(rollout.Facts{
		Now: now, Canary: c, Provider: fact, Target: ready, Primary: primary,
		Services: rollout.ServicesFact{BackendsInPlace: true, ApexInPlace: true},
		Routes:   rollout.RoutesFact{Known: true, InPlace: true, Settled: true},
	})
	for _, condition := range decision.Status.Conditions {
		if condition.Type == v1beta1.HealthyType && strings.Contains(condition.Message, "is ignored") {
			return condition.Message
		}
	}
	return ""
}

func render(t *testing.T, p router.Provider, c *v1beta1.Canary, traffic router.Traffic) ([]router.Object, error) {
	t.Helper()
	store := conformance.NewStore(nil)
	for ref, o := range conformance.Exposing(t, p, c) {
		if err := store.Put(ref, o); err != nil {
			t.Fatal(err)
		}
	}
	return p.Render(c, traffic, store)
}

func serves(t *testing.T, name string, p router.Provider, w wish) bool {
	t.Helper()
	got := written(t, name, p, w.traffic, w.ask)
	if w.less == nil && len(w.words) == 0 {
		plain := w.traffic
		plain.Mirror = false
		return !reflect.DeepEqual(got, written(t, name, p, plain, nil))
	}
	if w.less != nil {
		return !reflect.DeepEqual(got, written(t, name, p, w.traffic, w.less))
	}
	raw, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range w.words {
		if !strings.Contains(string(raw), word) {
			return false
		}
	}
	return true
}

func written(t *testing.T, name string, p router.Provider, traffic router.Traffic, ask func(*v1beta1.Canary)) []map[string]any {
	t.Helper()
	objects, err := render(t, p, asking(name, ask), traffic)
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	for _, o := range objects {
		all = append(all, o.Wanted.Object)
	}
	return all
}
