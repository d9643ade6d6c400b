// Package adopted shifts the weights of the two Services of a Canary in a route of the user's own, and leaves all else in it as it
// is. What kinds of routes differ in is a Kind.
package adopted

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// namedBy is the field of the Canary that names the route.
const namedBy = "spec.routeRef.name"

// Kind is one kind of routes.
type Kind struct {
	// Ref names a route of the kind.
	Ref func(namespace, name string) router.Ref
	// Lists are the fields that hold rules, Backends is the field of a rule that holds its backends.
	Lists    [][]string
	Backends string
	// Service is the name of the Service of a namespace that a backend stands for, empty if it is something else.
	Service func(namespace string, backend map[string]any) string
	// Weight is that of a backend without one.
	Weight int64
	// Settled reports whether a route is in force. Nil means that nobody reports that.
	Settled func(*unstructured.Unstructured) (router.Observed, error)
}

// Provider changes one route.
type Provider struct {
	kind Kind
	name string
}

var (
	_ router.Outliner = (*Provider)(nil)
	_ router.Adviser  = (*Provider)(nil)
)

// New returns the provider for the route of a name.
func New(kind Kind, name string) *Provider { return &Provider{kind: kind, name: name} }

// Abilities: weights. Everything else would take rules of our own.
func (p *Provider) Abilities() router.Abilities {
	return router.Abilities{Routes: true, Weights: true, TCP: len(p.kind.Lists) > 1, ReportsSettled: p.kind.Settled != nil}
}

// Resources is the kind of the route.
func (p *Provider) Resources() []router.Ref { return []router.Ref{p.kind.Ref("", "")} }

// Sources is empty: the route is changed.
func (*Provider) Sources(*v1beta1.Canary) []router.Ref { return nil }

// Outline is the route.
func (p *Provider) Outline(c *v1beta1.Canary) []router.Object {
	return []router.Object{{
		Ref: p.kind.Ref(c.Namespace, p.name), Owned: p.kind.Lists, KeepOriginal: true, Named: true, NamedBy: namedBy,
		Restore: func(live, original map[string]any) (map[string]any, error) { return p.restored(c, live, original), nil },
	}}
}

// Render returns the route as it is, with other weights. Only the lists that have any of them are owned.
func (p *Provider) Render(c *v1beta1.Canary, t router.Traffic, live router.Live) ([]router.Object, error) {
	o := p.Outline(c)[0]
	present, err := p.route(c, live)
	if err != nil {
		return nil, err
	}
	if present == nil {
		return nil, &router.FieldError{Field: namedBy, Message: fmt.Sprintf("%s does not exist: create it with a rule that has the backends "+
			"%s and %s, or correct the name", o.Ref, router.NamesOf(c).Primary, router.NamesOf(c).Canary)}
	}
	spec := map[string]any{}
	o.Owned = nil
	found := p.splits(c, present.Object)
	for i := range found {
		if fault := found[i].fault(); fault != "" {
			return nil, &router.FieldError{Field: namedBy, Message: fmt.Sprintf("%s: %s", o.Ref, fault)}
		}
		found[i].set(t)
		if !slices.ContainsFunc(o.Owned, func(path []string) bool { return slices.Equal(path, found[i].list) }) {
			o.Owned = append(o.Owned, found[i].list)
		}
	}
	if len(found) == 0 {
		return nil, &router.FieldError{Field: namedBy, Message: fmt.Sprintf("%s has no rule with the backends %s and %s, between which "+
			"traffic could be shifted: give both to a rule, with the weights 100 and 0", o.Ref, router.NamesOf(c).Primary, router.NamesOf(c).Canary)}
	}
	for _, path := range o.Owned {
		list, _, err := unstructured.NestedFieldNoCopy(present.Object, path...)
		if err == nil {
			err = unstructured.SetNestedField(spec, list, path[1:]...)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Ref, err)
		}
	}
	o.Wanted = router.NewObject(o.Ref, nil, nil, spec)
	return []router.Object{o}, nil
}

// route returns a copy of the route, nil if there is none.
func (p *Provider) route(c *v1beta1.Canary, live router.Live) (*unstructured.Unstructured, error) {
	ref := p.kind.Ref(c.Namespace, p.name)
	o, err := live.Get(ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	if o == nil {
		return nil, nil
	}
	return o.DeepCopy(), nil
}

// Read returns the greatest share that any rule gives to the canary.
func (p *Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	ref := p.kind.Ref(c.Namespace, p.name)
	o, err := router.MustGet(live, ref)
	if err != nil {
		return router.Observed{}, err
	}
	share := int32(-1)
	found := p.splits(c, o.Object)
	for i := range found {
		share = max(share, found[i].share())
	}
	if share < 0 {
		return router.Observed{}, fmt.Errorf("%s %w: no rule has both backends", ref, router.ErrUnreadable)
	}
	observed := router.Observed{Settled: true}
	if p.kind.Settled != nil {
		if observed, err = p.kind.Settled(o); err != nil {
			return router.Observed{}, fmt.Errorf("%s %w: %w", ref, router.ErrUnreadable, err)
		}
	}
	observed.Traffic = router.Traffic{Primary: 100 - share, Canary: share}
	return observed, nil
}

// restored is the spec of a route with the weights that it had: those of the rule that was the same but for them, or else of the
// first that had both backends.
func (p *Provider) restored(c *v1beta1.Canary, live, original map[string]any) map[string]any {
	next := map[string]any{"spec": live}
	next = (&unstructured.Unstructured{Object: next}).DeepCopy().Object
	before := p.splits(c, map[string]any{"spec": original})
	if len(before) > 0 {
		now := p.splits(c, next)
		for i := range now {
			same := slices.IndexFunc(before, func(s split) bool { return s.identity() == now[i].identity() })
			now[i].restore(&before[max(same, 0)])
		}
	}
	spec, _ := next["spec"].(map[string]any) //nolint:errcheck // it was made above
	return spec
}

// Advise tells of fields that say something about routes which are not made, and of rules that lead to the canary alone.
func (p *Provider) Advise(c *v1beta1.Canary, live router.Live) []string {
	var all []string
	ref := p.kind.Ref(c.Namespace, p.name)
	if fields := withoutEffect(&c.Spec.Service); len(fields) > 0 {
		all = append(all, fmt.Sprintf("%s has no effect on %s, which is yours: write into it what is to hold, and remove the field",
			strings.Join(fields, ", "), ref))
	}
	o, err := live.Get(ref)
	if err != nil || o == nil {
		return all
	}
	canary := router.NamesOf(c).Canary
	p.each(o.Object, func(_ []string, at string, rule map[string]any) {
		names := p.services(c, rule)
		if slices.Contains(names, canary) && !slices.Contains(names, router.NamesOf(c).Primary) {
			all = append(all, fmt.Sprintf("%s of %s leads to %s alone, which has no pods but during a rollout: add the backend %s with the weight 100, "+
				"or remove the rule", at, ref, canary, router.NamesOf(c).Primary))
		}
	})
	return all
}

// withoutEffect lists the fields of spec.service that are about routes.
func withoutEffect(s *v1beta1.CanaryService) []string {
	var fields []string
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"timeout", s.Timeout != ""}, {"backendTimeout", s.BackendTimeout != ""}, {"gateways", len(s.Gateways) > 0},
		{"gatewayRefs", len(s.GatewayRefs) > 0}, {"hosts", len(s.Hosts) > 0}, {"delegation", s.Delegation},
		{"trafficPolicy", s.TrafficPolicy != nil}, {"match", len(s.Match) > 0}, {"rewrite", s.Rewrite != nil},
		{"retries", s.Retries != nil}, {"headers", s.Headers != nil}, {"mirror", len(s.Mirror) > 0}, {"corsPolicy", s.CorsPolicy != nil},
	} {
		if f.set {
			fields = append(fields, "spec.service."+f.name)
		}
	}
	return fields
}

// each calls do for every rule of a route, with where it stands.
func (p *Provider) each(route map[string]any, do func(list []string, at string, rule map[string]any)) {
	for _, list := range p.kind.Lists {
		value, _, err := unstructured.NestedFieldNoCopy(route, list...)
		rules, ok := value.([]any)
		if err != nil || !ok {
			continue
		}
		for i, item := range rules {
			if rule, ok := item.(map[string]any); ok {
				do(list, fmt.Sprintf("%s[%d]", strings.Join(list, "."), i), rule)
			}
		}
	}
}

// services lists the Services that the backends of a rule stand for, in their order, with an empty name for anything else.
func (p *Provider) services(c *v1beta1.Canary, rule map[string]any) []string {
	backends, _ := rule[p.kind.Backends].([]any) //nolint:errcheck // what is no list has no backends
	names := make([]string, len(backends))
	for i, item := range backends {
		if backend, ok := item.(map[string]any); ok {
			names[i] = p.kind.Service(c.Namespace, backend)
		}
	}
	return names
}

// splits finds the rules that have both Services as backends and give any of their traffic to these. All others are none of ours.
func (p *Provider) splits(c *v1beta1.Canary, route map[string]any) []split {
	names := router.NamesOf(c)
	var found []split
	p.each(route, func(list []string, at string, rule map[string]any) {
		services := p.services(c, rule)
		s := split{list: list, at: at, kind: &p.kind, rule: rule}
		for i, name := range services {
			backend, _ := rule[p.kind.Backends].([]any)[i].(map[string]any) //nolint:errcheck // a nil map is no backend of ours
			switch name {
			case names.Primary:
				s.primary = append(s.primary, backend)
			case names.Canary:
				s.canary = append(s.canary, backend)
			default:
				s.others += s.weight(backend)
			}
		}
		if len(s.primary) > 0 && len(s.canary) > 0 && (s.others == 0 || s.sum() > 0) {
			found = append(found, s)
		}
	})
	return found
}
