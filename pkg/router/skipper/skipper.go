// Package skipper shifts traffic with a second Ingress whose paths have both sides as weighted backends. Skipper prefers its
// routes to those of the user's Ingress while they are enabled.
//
// Annotation reference: https://opensource.zalando.com/skipper/kubernetes/ingress-usage/.
package skipper

import (
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/ingress"
)

// Options are the settings that come from flags.
type Options struct {
	// Unowned leaves out owner references, for an ingress in another cluster.
	Unowned bool
}

// Annotations that Skipper reads.
const (
	annotationsPrefix   = "zalando.org"
	weightsAnnotation   = annotationsPrefix + "/backend-weights"
	predicateAnnotation = annotationsPrefix + "/skipper-predicate"
)

// preferred makes routes win over those of the user's Ingress, which have the same host and path. disabled takes them out.
const (
	preferred = "Weight(100)"
	disabled  = "False()"
)

// Provider renders canary Ingresses.
type Provider struct{ options Options }

var _ router.Outliner = (*Provider)(nil)

// New returns the provider.
func New(options Options) *Provider { return &Provider{options: options} }

// Abilities: weights, and A/B tests by any conditions that a request has to meet all at once.
func (*Provider) Abilities() router.Abilities {
	return router.Abilities{Routes: true, Weights: true, Match: true}
}

// Resources is Ingress.
func (*Provider) Resources() []router.Ref { return []router.Ref{ingress.Ref("", "")} }

// Sources is the Ingress of the user.
func (*Provider) Sources(c *v1beta1.Canary) []router.Ref { return ingress.Sources(c) }

// Outline is the canary Ingress.
func (p *Provider) Outline(c *v1beta1.Canary) []router.Object { return []router.Object{p.outline(c)} }

func (p *Provider) outline(c *v1beta1.Canary) router.Object {
	return router.Object{
		Ref:          ingress.Canary(c),
		Owned:        [][]string{ingress.AnnotationPath(weightsAnnotation), ingress.AnnotationPath(predicateAnnotation)},
		KeepOriginal: true,
		Unowned:      p.options.Unowned,
		NamedBy:      ingress.NamedBy,
		Released:     map[string]string{predicateAnnotation: disabled},
	}
}

// Render returns the canary Ingress: a copy of the user's in which each path to the Service of the Canary is there twice, once
// for each side.
func (p *Provider) Render(c *v1beta1.Canary, t router.Traffic, sources router.Live) ([]router.Object, error) {
	source, err := ingress.Read(c, sources)
	if err != nil {
		return nil, err
	}
	names := router.NamesOf(c)
	spec, owned := ingress.Spec(source)
	if !split(spec, names) {
		return nil, ingress.NoBackend(c)
	}
	match, err := matchPredicates(c)
	if err != nil {
		return nil, err
	}
	annotations := ingress.Annotations(c, source)
	weights, err := weightsWith(annotations[weightsAnnotation], names, t)
	if err != nil {
		return nil, err
	}
	predicates := []string{preferred}
	switch {
	case t.Canary == 0:
		predicates = []string{disabled}
	case t.Matched:
		predicates = append(predicates, match...)
	}
	annotations[weightsAnnotation] = weights
	annotations[predicateAnnotation] = strings.Join(append(predicates, usersPredicates(annotations[predicateAnnotation])...), conjunction)
	stale, err := ingress.StaleAnnotations(c, sources, annotations, annotationsPrefix)
	if err != nil {
		return nil, err
	}
	o := p.outline(c)
	o.Wanted = router.NewObject(o.Ref, source.GetLabels(), annotations, spec)
	o.Owned = append(append(owned, stale...), o.Owned...)
	return []router.Object{o}, nil
}

// split leads each path of the apex Service to the primary, adds one to the canary, and reports whether there are any.
func split(spec map[string]any, names router.Names) bool {
	found := false
	for _, http := range ingress.HTTPRules(spec) {
		for _, path := range ingress.Paths(http) {
			service, ok := ingress.Service(path["backend"], names.Apex)
			if !ok {
				continue
			}
			found = true
			service["name"] = names.Canary
			toCanary := runtime.DeepCopyJSON(path)
			service["name"] = names.Primary
			http["paths"] = append(http["paths"].([]any), toCanary) //nolint:errcheck // Paths has found a path in it
		}
	}
	return found
}

// weightsWith adds the weights of both sides to those that the user gave other Services.
func weightsWith(users string, names router.Names, t router.Traffic) (string, error) {
	weights := map[string]any{}
	if users != "" {
		if err := json.Unmarshal([]byte(users), &weights); err != nil {
			return "", &router.FieldError{Field: ingress.NamedBy, Message: fmt.Sprintf(
				"annotation %s of the Ingress can't be read: %v: correct it", weightsAnnotation, err)}
		}
	}
	delete(weights, names.Apex)
	weights[names.Primary], weights[names.Canary] = t.Primary, t.Canary
	raw, err := json.Marshal(weights)
	return string(raw), err
}

// Read takes the weights from their annotation. While the route is disabled the Ingress of the user leads all to the primary.
func (*Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	ref, names := ingress.Canary(c), router.NamesOf(c)
	o, err := router.MustGet(live, ref)
	if err != nil {
		return router.Observed{}, err
	}
	annotations := o.GetAnnotations()
	weights := map[string]float64{}
	if err := json.Unmarshal([]byte(annotations[weightsAnnotation]), &weights); err != nil {
		return router.Observed{}, fmt.Errorf("%s %w: annotation %s: %w", ref, router.ErrUnreadable, weightsAnnotation, err)
	}
	primary, hasPrimary := weights[names.Primary]
	canary, hasCanary := weights[names.Canary]
	if !hasPrimary || !hasCanary {
		return router.Observed{}, fmt.Errorf("%s %w: annotation %s lacks one", ref, router.ErrUnreadable, weightsAnnotation)
	}
	traffic, err := router.Split(ref, int64(primary), int64(canary))
	predicates := annotations[predicateAnnotation]
	if strings.Contains(predicates, disabled) {
		traffic = router.Traffic{Primary: 100}
	}
	match, fault := matchPredicates(c)
	traffic.Matched = fault == nil && len(match) > 0 && strings.Contains(predicates, strings.Join(match, conjunction))
	return router.Observed{Traffic: traffic, Settled: true}, err
}
