package traefik

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/traefik/rule"
)

// A TraefikService has weights and no conditions. An A/B test has an IngressRoute of its own: a copy of that of the user, of the
// routes that lead to the TraefikService, for the requests that meet the match. Each takes precedence over the one that it was
// copied from, and over no other.

// namedBy is the field of the Canary that names the IngressRoute of the user.
const namedBy = "spec.ingressRef.name"

const traefikService = "TraefikService"

func ingressRoute(namespace, name string) router.Ref {
	return ref("ingressroutes", "IngressRoute", namespace, name)
}

// refName is the IngressRoute of the user. A reference to something else is of no use here.
func refName(c *v1beta1.Canary) string {
	if r := c.Spec.IngressRef; r != nil && r.Kind == "IngressRoute" {
		return r.Name
	}
	return ""
}

func outlineInsiders(c *v1beta1.Canary, unowned bool) router.Object {
	return router.Object{
		Ref:          ingressRoute(c.Namespace, fmt.Sprintf("%s-%s%s", refName(c), router.NamesOf(c).Apex, v1beta1.CanarySuffix)),
		Owned:        [][]string{{"spec"}},
		KeepOriginal: true,
		Unowned:      unowned,
		NamedBy:      namedBy,
	}
}

// renderInsiders returns the IngressRoute of an A/B test. Outside of one it leads where the user's does.
//
// There is none as long as no route of the user leads to the TraefikService, which has to be there before it is led to. Only once
// requests are to go to the canary is that a fault.
func (p *Provider) renderInsiders(c *v1beta1.Canary, t router.Traffic, sources router.Live) ([]router.Object, error) {
	match, err := rule.Of(c)
	if err != nil {
		return nil, err
	}
	source, routes, err := userRoutes(c, sources)
	if err != nil {
		return nil, err
	}
	if unled := notLed(c, routes); unled != nil {
		if t.Canary > 0 {
			return nil, unled
		}
		return nil, nil
	}
	o := outlineInsiders(c, p.options.Unowned)
	backends := []any{map[string]any{"kind": traefikService, "name": router.NamesOf(c).Apex, "namespace": c.Namespace}}
	if t.Matched {
		backends = renderServices(c, t)
	}
	var copies []any
	for _, r := range routes {
		if r.ours {
			copies = append(copies, r.copyFor(match, backends, routes))
		}
	}
	spec, _, err := unstructured.NestedMap(source.Object, "spec")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Ref, err)
	}
	spec["routes"] = copies
	annotations := source.GetAnnotations()
	maps.DeleteFunc(annotations, func(name, _ string) bool {
		return name == router.KubectlAnnotation || name == router.OriginalAnnotation
	})
	o.Wanted = router.NewObject(o.Ref, source.GetLabels(), annotations, spec)
	return []router.Object{o}, nil
}

// notLed is a fault if none of the routes leads to the TraefikService.
func notLed(c *v1beta1.Canary, routes []route) *router.FieldError {
	if slices.ContainsFunc(routes, func(r route) bool { return r.ours }) {
		return nil
	}
	return &router.FieldError{Field: namedBy, Message: fmt.Sprintf(
		"no route of IngressRoute %s leads to the TraefikService %s, so that nobody is led by analysis.match: add one, or correct the name",
		refName(c), router.NamesOf(c).Apex)}
}

// route is one of the user's.
type route struct {
	fields map[string]any
	match  string
	// priority is what Traefik takes: the length of the rule, unless another one is set.
	priority int64
	// ours is whether it leads to the TraefikService of the Canary.
	ours bool
}

// userRoutes returns the IngressRoute of the user and its routes, none if it is not there.
func userRoutes(c *v1beta1.Canary, sources router.Live) (*unstructured.Unstructured, []route, error) {
	ref := ingressRoute(c.Namespace, refName(c))
	source, err := sources.Get(ref)
	if err != nil || source == nil {
		return nil, nil, err
	}
	list, _, err := unstructured.NestedSlice(source.Object, "spec", "routes")
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", ref, err)
	}
	fault := func(message string) error {
		return &router.FieldError{Field: namedBy, Message: fmt.Sprintf("%s: "+message, ref, router.NamesOf(c).Apex)}
	}
	var routes []route
	for _, item := range list {
		fields, ok := item.(map[string]any)
		if !ok {
			continue
		}
		r := route{fields: fields, priority: router.Integer(fields["priority"])}
		r.match, _, _ = unstructured.NestedString(fields, "match")
		if r.priority == 0 {
			r.priority = int64(len(r.match))
		}
		services, _, _ := unstructured.NestedSlice(fields, "services")
		for _, s := range services {
			r.ours = r.ours || leadsTo(c, s)
		}
		switch {
		case r.ours && len(services) > 1:
			return nil, nil, fault("a route to the TraefikService %s has other services beside it: give it a route of its own")
		case r.ours && fields["syntax"] == "v2":
			return nil, nil, fault("a route to the TraefikService %s has the syntax v2: write its rule in the present one")
		}
		routes = append(routes, r)
	}
	return source.DeepCopy(), routes, nil
}

func leadsTo(c *v1beta1.Canary, service any) bool {
	fields, ok := service.(map[string]any)
	if !ok || fields["kind"] != traefikService || fields["name"] != router.NamesOf(c).Apex {
		return false
	}
	namespace, _, _ := unstructured.NestedString(fields, "namespace")
	return namespace == "" || namespace == c.Namespace
}

// copyFor is the route for requests that meet a match. Its priority is one more than that of the user's, so it must leave out what
// routes to others get that have a higher one.
func (r *route) copyFor(match string, backends []any, all []route) map[string]any {
	rule := []string{"(" + r.match + ")"}
	if match != "" {
		rule = append(rule, "("+match+")")
	}
	for i := range all {
		if other := &all[i]; !other.ours && other.priority > r.priority {
			rule = append(rule, "!("+other.match+")")
		}
	}
	fields := runtime.DeepCopyJSON(r.fields)
	fields["match"], fields["priority"], fields["services"] = strings.Join(rule, " && "), r.priority+1, backends
	return fields
}

// readInsiders returns the traffic of an A/B test, and whether the live IngressRoute is one of such.
func readInsiders(c *v1beta1.Canary, live router.Live) (t router.Traffic, matched bool, err error) {
	r := outlineInsiders(c, false).Ref
	o, err := live.Get(r)
	if err != nil || o == nil {
		return t, false, err
	}
	routes, _, err := unstructured.NestedSlice(o.Object, "spec", "routes")
	if err != nil || len(routes) == 0 {
		return t, false, fmt.Errorf("%s %w: it has no routes", r, router.ErrUnreadable)
	}
	first, ok := routes[0].(map[string]any)
	if !ok {
		return t, false, fmt.Errorf("%s %w: its first route is no object", r, router.ErrUnreadable)
	}
	services, _, err := unstructured.NestedSlice(first, "services")
	if err != nil {
		return t, false, fmt.Errorf("%s %w: %w", r, router.ErrUnreadable, err)
	}
	if len(services) == 1 && leadsTo(c, services[0]) {
		return t, false, nil
	}
	t, err = splitOf(c, r, services)
	t.Matched = true
	return t, true, err
}
