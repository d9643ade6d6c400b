// Package apisix shifts traffic with a second ApisixRoute that takes precedence over that of the user, in which the same rules
// have both sides as backends.
//
// Field reference: https://apisix.apache.org/docs/ingress-controller/1.8.0/references/apisix_route_v2/.
package apisix

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Priorities of our rules. APISIX asks the one with the highest first, and users' rules have 0 unless they say otherwise.
const (
	priority        = int64(10000)
	matchedPriority = int64(10001)
)

// namedBy is the field of the Canary that names the route of the user.
const namedBy = "spec.routeRef.name"

// Options are the settings that come from flags.
type Options = router.Options

// Provider renders ApisixRoutes.
type Provider struct{ options Options }

var (
	_ router.Outliner = (*Provider)(nil)
	_ router.Adviser  = (*Provider)(nil)
)

// New returns the provider.
func New(options Options) *Provider { return &Provider{options: options} }

// Abilities: weights, and A/B matches on headers and query parameters.
func (*Provider) Abilities() router.Abilities {
	return router.Abilities{Routes: true, Weights: true, Match: true}
}

// Resources is ApisixRoute.
func (*Provider) Resources() []router.Ref { return []router.Ref{ref("", "")} }

// Sources is the route of the user.
func (*Provider) Sources(c *v1beta1.Canary) []router.Ref {
	if refName(c) == "" {
		return nil
	}
	return []router.Ref{ref(c.Namespace, refName(c))}
}

func refName(c *v1beta1.Canary) string {
	if c.Spec.RouteRef == nil {
		return ""
	}
	return c.Spec.RouteRef.Name
}

func ref(namespace, name string) router.Ref {
	return router.RefTo("apisix.apache.org", "v2", "ApisixRoute", "apisixroutes").Of(namespace, name)
}

// Outline is the route beside that of the user.
func (p *Provider) Outline(c *v1beta1.Canary) []router.Object { return []router.Object{p.outline(c)} }

func (p *Provider) outline(c *v1beta1.Canary) router.Object {
	return router.Object{
		Ref:          ref(c.Namespace, fmt.Sprintf("%s-%s%s", refName(c), router.NamesOf(c).Apex, v1beta1.CanarySuffix)),
		Owned:        [][]string{{"spec", "http"}, {"spec", "ingressClassName"}},
		KeepOriginal: true,
		Unowned:      p.options.Unowned,
	}
}

// Render returns the route beside that of the user.
func (p *Provider) Render(c *v1beta1.Canary, t router.Traffic, sources router.Live) ([]router.Object, error) {
	source, err := p.source(c, sources)
	if err != nil {
		return nil, err
	}
	rules, err := rulesOf(c, source)
	if err != nil {
		return nil, err
	}
	exprs, err := expressions(c)
	if err != nil {
		return nil, err
	}
	var http []any
	for _, rule := range rules {
		if t.Matched && t.Canary > 0 {
			http = append(http, renderMatched(c, t, rule, exprs)...)
			continue
		}
		http = append(http, renderRule(c, t, rule, priority))
	}
	o := p.outline(c)
	spec := map[string]any{"http": http}
	if class, ok, err := unstructured.NestedString(source.Object, "spec", "ingressClassName"); err == nil && ok {
		spec["ingressClassName"] = class
	}
	annotations := source.GetAnnotations()
	maps.DeleteFunc(annotations, func(name, _ string) bool {
		return name == router.KubectlAnnotation || name == router.OriginalAnnotation
	})
	o.Wanted = router.NewObject(o.Ref, source.GetLabels(), annotations, spec)
	return []router.Object{o}, nil
}

func (p *Provider) source(c *v1beta1.Canary, sources router.Live) (*unstructured.Unstructured, error) {
	if refName(c) == "" {
		return nil, &router.FieldError{Field: namedBy, Message: "is missing: name the ApisixRoute that exposes the target"}
	}
	r := p.Sources(c)[0]
	o, err := sources.Get(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	if o == nil {
		return nil, &router.FieldError{Field: namedBy, Message: fmt.Sprintf(
			"%s does not exist: create it with a rule for the Service %s, or correct the name", r, router.NamesOf(c).Apex)}
	}
	return o, nil
}

// rulesOf returns the http rules of a route whose one backend is the Service of the Canary. All others are none of ours.
func rulesOf(c *v1beta1.Canary, source *unstructured.Unstructured) ([]map[string]any, error) {
	apex := router.NamesOf(c).Apex
	isApex := func(item any) bool {
		backend, ok := item.(map[string]any)
		return ok && backend["serviceName"] == apex
	}
	var ours []map[string]any
	http, _, err := unstructured.NestedSlice(source.Object, "spec", "http")
	if err != nil {
		return nil, &router.FieldError{Field: namedBy, Message: fmt.Sprintf("spec.http of the ApisixRoute: %v", err)}
	}
	for i, item := range http {
		rule, ok := item.(map[string]any)
		if !ok {
			continue
		}
		backends, _ := rule["backends"].([]any) //nolint:errcheck // what is no list has no backends
		switch {
		case !slices.ContainsFunc(backends, isApex):
			continue
		case len(backends) > 1:
			return nil, &router.FieldError{Field: namedBy, Message: fmt.Sprintf(
				"spec.http[%d] of the ApisixRoute has several backends: leave the Service %s alone in its rule", i, apex)}
		}
		ours = append(ours, rule)
	}
	if len(ours) == 0 {
		return nil, &router.FieldError{Field: namedBy, Message: fmt.Sprintf(
			"ApisixRoute %s.%s has no http rule with the backend %s: add one, or correct the name or spec.service.name",
			source.GetName(), source.GetNamespace(), apex)}
	}
	return ours, nil
}

// renderRule is a rule of the user's with both sides as backends. Plugins, authentication, timeouts and the rest stay.
func renderRule(c *v1beta1.Canary, t router.Traffic, users map[string]any, priority int64) map[string]any {
	names := router.NamesOf(c)
	rule := runtime.DeepCopyJSON(users)
	rule["priority"] = priority
	var backends []any
	for _, side := range []struct {
		name   string
		weight int32
	}{{names.Primary, t.Primary}, {names.Canary, t.Canary}} {
		backend := runtime.DeepCopyJSONValue(users["backends"].([]any)[0]).(map[string]any) //nolint:errcheck // rulesOf has seen it
		backend["serviceName"], backend["weight"] = side.name, int64(side.weight)
		backends = append(backends, backend)
	}
	rule["backends"] = backends
	return rule
}

// renderMatched returns a rule for the requests of each match. All others go by the rule of the user, which leads to the
// primary.
func renderMatched(c *v1beta1.Canary, t router.Traffic, users map[string]any, exprs [][]any) []any {
	var rules []any
	for i, conditions := range exprs {
		rule := renderRule(c, t, users, matchedPriority)
		match, ok := rule["match"].(map[string]any)
		if !ok {
			match = map[string]any{}
			rule["match"] = match
		}
		users, _ := match["exprs"].([]any) //nolint:errcheck // what is no list has no conditions
		match["exprs"] = slices.Concat(users, conditions)
		if i > 0 {
			// APISIX wants names that differ.
			rule["name"] = fmt.Sprintf("%v-%d", rule["name"], i)
		}
		rules = append(rules, rule)
	}
	return rules
}

// Read takes the weights from the rule that has the primary as a backend, wherever it stands.
func (p *Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	names, r := router.NamesOf(c), p.outline(c).Ref
	o, err := router.MustGet(live, r)
	if err != nil {
		return router.Observed{}, err
	}
	http, _, err := unstructured.NestedSlice(o.Object, "spec", "http")
	if err != nil {
		return router.Observed{}, fmt.Errorf("%s %w: %w", r, router.ErrUnreadable, err)
	}
	for _, item := range http {
		rule, ok := item.(map[string]any)
		if !ok {
			continue
		}
		backends, _ := rule["backends"].([]any) //nolint:errcheck // what is no list has no backends
		weights := router.ServiceWeights(backends, "serviceName")
		if _, ok := weights[names.Primary]; !ok {
			continue
		}
		traffic, err := router.Split(r, weights[names.Primary], weights[names.Canary])
		traffic.Matched = router.Integer(rule["priority"]) == matchedPriority
		return router.Observed{Traffic: traffic, Settled: true}, err
	}
	return router.Observed{}, fmt.Errorf("%s %w: no rule has the backend %s", r, router.ErrUnreadable, names.Primary)
}
