// Package nginx shifts traffic with a second Ingress whose annotations make ingress-nginx take it for the canary of the
// user's Ingress.
//
// Annotation reference: https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/#canary.
package nginx

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/ingress"
)

// Options are the settings that come from flags.
type Options struct {
	// AnnotationsPrefix is what all annotations of the controller begin with. Default: nginx.ingress.kubernetes.io.
	AnnotationsPrefix string
	// Unowned leaves out owner references, for an ingress in another cluster.
	Unowned bool
}

// DefaultPrefix is what the annotations of ingress-nginx begin with unless it was told otherwise.
const DefaultPrefix = "nginx.ingress.kubernetes.io"

// Provider renders canary Ingresses.
type Provider struct{ options Options }

var (
	_ router.Outliner = (*Provider)(nil)
	_ router.Adviser  = (*Provider)(nil)
)

// New returns the provider.
func New(options Options) *Provider {
	if options.AnnotationsPrefix == "" {
		options.AnnotationsPrefix = DefaultPrefix
	}
	return &Provider{options: options}
}

// Abilities: weights and A/B tests by one header and one cookie.
func (*Provider) Abilities() router.Abilities {
	return router.Abilities{Routes: true, Weights: true, Match: true}
}

// Resources is Ingress.
func (*Provider) Resources() []router.Ref { return []router.Ref{ingress.Ref("", "")} }

// Sources is the Ingress of the user.
func (*Provider) Sources(c *v1beta1.Canary) []router.Ref { return ingress.Sources(c) }

// annotation names of the controller, after the prefix.
const (
	canaryKey  = "canary"
	weightKey  = "canary-weight"
	totalKey   = "canary-weight-total"
	headerKey  = "canary-by-header"
	valueKey   = "canary-by-header-value"
	patternKey = "canary-by-header-pattern"
	cookieKey  = "canary-by-cookie"
)

func canaryKeys() []string {
	return []string{canaryKey, weightKey, totalKey, headerKey, valueKey, patternKey, cookieKey}
}

func (p *Provider) annotation(key string) string { return p.options.AnnotationsPrefix + "/" + key }

// Outline is the canary Ingress, by each name that it may have.
func (p *Provider) Outline(c *v1beta1.Canary) []router.Object {
	var all []router.Object
	for _, ref := range ingress.Names(c) {
		all = append(all, p.outline(ref))
	}
	return all
}

// outline: an Ingress without canary annotations would stand beside the user's as its equal, so they are never taken away.
func (p *Provider) outline(ref router.Ref) router.Object {
	o := router.Object{
		Ref:          ref,
		OrElse:       ingress.Sharing,
		KeepOriginal: true,
		Unowned:      p.options.Unowned,
		Released:     map[string]string{p.annotation(canaryKey): "true", p.annotation(weightKey): "0"},
		NamedBy:      ingress.NamedBy,
	}
	for _, key := range canaryKeys() {
		o.Owned = append(o.Owned, ingress.AnnotationPath(p.annotation(key)))
	}
	return o
}

// Render returns the canary Ingress: a copy of the user's in which all that leads to the Service of the Canary leads to its
// canary.
func (p *Provider) Render(c *v1beta1.Canary, t router.Traffic, sources router.Live) ([]router.Object, error) {
	o, err := ingress.NewCopy(c, sources)
	if err != nil {
		return nil, err
	}
	if !redirect(o.Spec, router.NamesOf(c)) {
		return nil, ingress.NoBackend(c)
	}
	shift, err := p.shift(c, t, o.Annotations)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(o.Annotations, func(name, _ string) bool {
		return strings.HasPrefix(name, p.annotation(canaryKey))
	})
	for key, value := range shift {
		o.Annotations[p.annotation(key)] = value
	}
	ref, err := ingress.Made(c, sources)
	if err != nil {
		return nil, err
	}
	completed, err := o.Complete(sources, p.outline(ref), p.options.AnnotationsPrefix)
	return []router.Object{completed}, err
}

// redirect leads the paths and the default backend of the apex Service to the canary, and reports whether there are any.
func redirect(spec map[string]any, names router.Names) bool {
	found := false
	lead := func(backend any) {
		if service, ok := ingress.Service(backend, names.Apex); ok {
			service["name"], found = names.Canary, true
		}
	}
	lead(spec["defaultBackend"])
	for _, http := range ingress.HTTPRules(spec) {
		for _, path := range ingress.Paths(http) {
			lead(path["backend"])
		}
	}
	return found
}

// shift returns the canary annotations, without prefix. While the canary has no share it has no rule by header either: its
// Service may have no pods.
func (p *Provider) shift(c *v1beta1.Canary, t router.Traffic, users map[string]string) (map[string]string, error) {
	match := c.GetAnalysis().Match
	if len(match) > 0 && c.GetAnalysis().Iterations < 1 && !c.SkipAnalysis() {
		return nil, &router.FieldError{Field: "spec.analysis.match", Message: "NGINX leads all requests that match to the canary, " +
			"and no share of them: set spec.analysis.iterations for an A/B test, or remove match"}
	}
	rules, err := rulesOf(c)
	if err != nil {
		return nil, err
	}
	annotations := map[string]string{canaryKey: "true", weightKey: strconv.Itoa(int(t.Canary))}
	switch {
	case t.Canary == 0:
	case t.Matched:
		annotations[weightKey] = "0"
		maps.Copy(annotations, rules)
	case len(match) == 0:
		// Rules that the user gave the Ingress hold beside the weights of a run.
		for _, key := range []string{headerKey, valueKey, patternKey, cookieKey} {
			if value, ok := users[p.annotation(key)]; ok {
				annotations[key] = value
			}
		}
	}
	return annotations, nil
}

// Read takes the weights from the annotations. Requests that a rule leads to the canary while the weight is 0 are all that it
// gets.
func (p *Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	ref, err := ingress.Made(c, live)
	if err != nil {
		return router.Observed{}, err
	}
	o, err := router.MustGet(live, ref)
	if err != nil {
		return router.Observed{}, err
	}
	annotations := o.GetAnnotations()
	if annotations[p.annotation(canaryKey)] != "true" {
		return router.Observed{}, fmt.Errorf("%s %w: its annotation %s is not true", ref, router.ErrUnreadable, p.annotation(canaryKey))
	}
	weight := 0
	if text, ok := annotations[p.annotation(weightKey)]; ok {
		if weight, err = strconv.Atoi(text); err != nil {
			return router.Observed{}, fmt.Errorf("%s %w: annotation %s: %w", ref, router.ErrUnreadable, p.annotation(weightKey), err)
		}
	}
	_, byHeader := annotations[p.annotation(headerKey)]
	_, byCookie := annotations[p.annotation(cookieKey)]
	if weight == 0 && (byHeader || byCookie) {
		return router.Observed{Traffic: router.Traffic{Canary: 100, Matched: true}, Settled: true}, nil
	}
	traffic, err := router.Split(ref, int64(100-weight), int64(weight))
	return router.Observed{Traffic: traffic, Settled: true}, err
}

// linkerdOverride in a snippet names the Service that a request is for.
const linkerdOverride = "l5d-dst-override"

// Advise warns of a snippet that pins all requests to the primary.
func (*Provider) Advise(c *v1beta1.Canary, sources router.Live) []string {
	source, err := ingress.Read(c, sources)
	if err != nil {
		return nil
	}
	for name, value := range source.GetAnnotations() {
		if strings.Contains(value, linkerdOverride) {
			return []string{fmt.Sprintf("Annotation %s of %s sets %s, with which Linkerd sends all requests to one Service whatever "+
				"the weights: remove it, and set the annotation service-upstream to \"true\" instead", name, ingress.Source(c), linkerdOverride)}
		}
	}
	return nil
}
