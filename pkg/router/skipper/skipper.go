// Package skipper shifts traffic with a second Ingress whose paths have both sides as weighted backends. Skipper prefers its
// routes to those of the user's Ingress while they are enabled. Each further match of an A/B test is one more such Ingress.
//
// Annotation reference: https://opensource.zalando.com/skipper/kubernetes/ingress-usage/.
package skipper

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/ingress"
)

// Options are the settings that come from flags.
type Options = router.Options

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

// Abilities: weights, and A/B tests.
func (*Provider) Abilities() router.Abilities {
	return router.Abilities{Routes: true, Weights: true, Match: true, RE2: true}
}

// Resources is Ingress.
func (*Provider) Resources() []router.Ref { return []router.Ref{ingress.Ref("", "")} }

// Sources is the Ingress of the user.
func (*Provider) Sources(c *v1beta1.Canary) []router.Ref { return ingress.Sources(c) }

// Outline is a canary Ingress for each match that there may be, or have been.
func (p *Provider) Outline(c *v1beta1.Canary) []router.Object {
	var all []router.Object
	for _, first := range ingress.Names(c) {
		all = append(all, p.outlines(first)...)
	}
	return all
}

// outlines are the Ingresses that begin with this one.
func (p *Provider) outlines(first router.Ref) []router.Object {
	var all []router.Object
	for _, ref := range refs(first) {
		all = append(all, router.Object{
			Ref:          ref,
			OrElse:       ingress.Sharing,
			Owned:        [][]string{ingress.AnnotationPath(weightsAnnotation), ingress.AnnotationPath(predicateAnnotation)},
			KeepOriginal: true,
			Unowned:      p.options.Unowned,
			NamedBy:      ingress.NamedBy,
			Released:     map[string]string{predicateAnnotation: disabled},
		})
	}
	return all
}

// refs are the names of all Ingresses that a Canary may have: the first without a number.
func refs(first router.Ref) []router.Ref {
	all := []router.Ref{first}
	for i := 2; i <= maxMatches; i++ {
		all = append(all, ingress.Ref(all[0].Namespace, fmt.Sprintf("%s-%d", all[0].Name, i)))
	}
	return all
}

// Render returns the canary Ingresses: copies of the user's in which each path to the Service of the Canary is there twice, once
// for each side. The first one leads requests of the first match, or all requests. Those of further matches have no say without
// them, and one that is left from a match which is no longer there neither.
func (p *Provider) Render(c *v1beta1.Canary, t router.Traffic, sources router.Live) ([]router.Object, error) {
	first, err := ingress.NewCopy(c, sources)
	if err != nil {
		return nil, err
	}
	if !split(first.Spec, router.NamesOf(c)) {
		return nil, ingress.NoBackend(c)
	}
	match, err := matchPredicates(c)
	if err != nil {
		return nil, err
	}
	made, err := ingress.Made(c, sources)
	if err != nil {
		return nil, err
	}
	var objects []router.Object
	for i, o := range p.outlines(made) {
		if left, err := sources.Get(o.Ref); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Ref, err)
		} else if i > 0 && i >= len(match) && left == nil {
			continue
		}
		copied := first.Clone()
		weights, err := weightsWith(copied.Annotations[weightsAnnotation], router.NamesOf(c), t)
		if err != nil {
			return nil, err
		}
		predicates := append(decide(t, match, i), usersPredicates(copied.Annotations[predicateAnnotation])...)
		copied.Annotations[weightsAnnotation], copied.Annotations[predicateAnnotation] = weights, strings.Join(predicates, conjunction)
		if o, err = copied.Complete(sources, o, annotationsPrefix); err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// decide returns the predicates that tell which requests the Ingress of a match is for.
func decide(t router.Traffic, match [][]string, i int) []string {
	switch {
	case t.Canary > 0 && t.Matched && i < len(match):
		return append([]string{preferred}, match[i]...)
	case t.Canary > 0 && !t.Matched && i == 0:
		return []string{preferred}
	default:
		return []string{disabled}
	}
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

// weightsWith adds the weights of both sides to those that the user gave other Services. Where the user gave the Service of the
// Canary a weight beside others of the same path, the sides share that one. It stays, so that it is known what they share.
func weightsWith(users string, names router.Names, t router.Traffic) (string, error) {
	weights := map[string]float64{}
	if users != "" {
		if err := json.Unmarshal([]byte(users), &weights); err != nil {
			return "", &router.FieldError{Field: ingress.NamedBy, Message: fmt.Sprintf(
				"annotation %s of the Ingress can't be read: %v: correct it", weightsAnnotation, err)}
		}
	}
	all := whole(weights, names)
	weights[names.Primary], weights[names.Canary] = float64(t.Primary)*all/100, float64(t.Canary)*all/100
	raw, err := json.Marshal(weights)
	return string(raw), err
}

// whole is the weight that both sides have together.
func whole(weights map[string]float64, names router.Names) float64 {
	if all := weights[names.Apex]; all > 0 {
		return all
	}
	return 100
}

// Read takes the weights from their annotation. While the route is disabled the Ingress of the user leads all to the primary.
func (*Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	names := router.NamesOf(c)
	ref, err := ingress.Made(c, live)
	if err != nil {
		return router.Observed{}, err
	}
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
	percent := func(weight float64) int64 { return int64(math.Round(weight * 100 / whole(weights, names))) }
	traffic, err := router.Split(ref, percent(primary), percent(canary))
	predicates := annotations[predicateAnnotation]
	if strings.Contains(predicates, disabled) {
		traffic = router.Traffic{Primary: 100}
	}
	match, fault := matchPredicates(c)
	traffic.Matched = fault == nil && len(match) > 0 && strings.Contains(predicates, strings.Join(match[0], conjunction))
	return router.Observed{Traffic: traffic, Settled: true}, err
}
