package gloo

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
)

// modelField is the field of the Canary that names the Upstream whose settings are taken over.
const modelField = "spec.upstreamRef"

func upstreamRef(namespace, name string) router.Ref {
	return router.RefTo("gloo.solo.io", "v1", "Upstream", "upstreams").Of(namespace, name)
}

// upstreamName is part of the contract: Envoy's metrics name it.
func upstreamName(c *v1beta1.Canary, names router.Names, service string) string {
	side := "primary"
	if service == names.Canary {
		side = "canary"
	}
	return fmt.Sprintf("%s-%s-%supstream-%d", c.Namespace, names.Apex, side, c.Spec.Service.Port)
}

func (p *Provider) upstream(c *v1beta1.Canary, names router.Names, service string) router.Object {
	return router.Object{
		Ref: upstreamRef(c.Namespace, upstreamName(c, names, service)),
		Owned: [][]string{
			{"spec", "kube", "serviceName"}, {"spec", "kube", "serviceNamespace"}, {"spec", "kube", "servicePort"}, {"spec", "kube", "selector"},
		},
		KeepOriginal: true,
		Unowned:      p.options.Unowned,
	}
}

// renderUpstreams returns the Upstream of each side. Without spec.upstreamRef all settings but the destination are the user's.
func (p *Provider) renderUpstreams(c *v1beta1.Canary, live router.Live) ([]router.Object, error) {
	settings, labels, err := p.model(c, live)
	if err != nil {
		return nil, err
	}
	names := router.NamesOf(c)
	var objects []router.Object
	for _, service := range []string{names.Primary, names.Canary} {
		kube := map[string]any{
			"serviceName":      service,
			"serviceNamespace": c.Namespace,
			"servicePort":      int64(c.Spec.Service.Port),
		}
		selector, err := services.SelectorOf(services.Ref(c.Namespace, service), live)
		if err != nil {
			return nil, err
		}
		if len(selector) > 0 {
			kube["selector"] = selector
		}
		o := p.upstream(c, names, service)
		spec := map[string]any{"kube": kube}
		for name, value := range settings {
			o.Owned = append(o.Owned, []string{"spec", name})
			if value != nil {
				spec[name] = runtime.DeepCopyJSONValue(value)
			}
		}
		o.Wanted = router.NewObject(o.Ref, labels, nil, spec)
		objects = append(objects, o)
	}
	return objects, nil
}

func modelRef(c *v1beta1.Canary) (router.Ref, bool) {
	ref := c.Spec.UpstreamRef
	if ref == nil || ref.Name == "" {
		return router.Ref{}, false
	}
	return upstreamRef(ref.NamespaceOr(c.Namespace), ref.Name), true
}

// destinations are the fields of an Upstream that say where it leads, or that Gloo writes.
func destinations() []string {
	return []string{
		"ai", "aws", "awsEc2", "azure", "consul", "discoveryMetadata", "gcp", "kube", "namespacedStatuses", "pipe", "static",
	}
}

// settings are the fields that follow the model, and so go when it loses them.
func settings() []string {
	return []string{
		"circuitBreakers", "connectionConfig", "failover", "healthChecks", "httpProxyHostname", "initialConnectionWindowSize",
		"initialStreamWindowSize", "loadBalancerConfig", "outlierDetection", "sslConfig", "useHttp2",
	}
}

// model returns the settings and labels that Upstreams take over, as they stand there. A nil value is one that the model lacks.
func (p *Provider) model(c *v1beta1.Canary, live router.Live) (map[string]any, map[string]string, error) {
	ref, ok := modelRef(c)
	if !ok {
		return nil, nil, nil
	}
	o, err := live.Get(ref)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", ref, err)
	}
	if o == nil {
		return nil, nil, &router.FieldError{Field: modelField, Message: fmt.Sprintf(
			"%s does not exist: create it, as its settings are those of the Upstreams that are made, or correct or remove the reference", ref)}
	}
	all := map[string]any{}
	for _, name := range settings() {
		all[name] = nil
	}
	spec, _, err := unstructured.NestedMap(o.Object, "spec")
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", ref, err)
	}
	for name, value := range spec {
		if !slices.Contains(destinations(), name) {
			all[name] = value
		}
	}
	labels := o.GetLabels()
	maps.DeleteFunc(labels, func(name, _ string) bool { return !p.included(name) })
	return all, labels, nil
}

func (p *Provider) included(label string) bool {
	return slices.ContainsFunc(p.options.IncludeLabelPrefix, func(prefix string) bool {
		return prefix == "*" || prefix != "" && strings.HasPrefix(label, prefix)
	})
}

// matchersOf returns one matcher for each match of the analysis, of which a request has to meet one. Conditions are sorted by
// name, so that two renderings are equal.
func matchersOf(c *v1beta1.Canary) ([]any, error) {
	if err := (router.Conditions{System: "Gloo", QueryParams: true}).Check(c); err != nil {
		return nil, err
	}
	var all []any
	for _, m := range c.GetAnalysis().Match {
		matcher := map[string]any{}
		if headers := conditions(m.Headers); len(headers) > 0 {
			matcher["headers"] = headers
		}
		if parameters := conditions(m.QueryParams); len(parameters) > 0 {
			matcher["queryParameters"] = parameters
		}
		all = append(all, matcher)
	}
	return all, nil
}

// conditions: a regular expression has to fit the whole value, and one without a value asks for the presence of the name.
func conditions(match map[string]v1beta1.StringMatch) []any {
	var all []any
	for _, name := range slices.Sorted(maps.Keys(match)) {
		condition := map[string]any{"name": name}
		switch m := match[name]; {
		case m.Exact != "":
			condition["value"] = m.Exact
		case m.Regex != "":
			condition["value"], condition["regex"] = m.Regex, true
		case m.Prefix != "":
			condition["value"], condition["regex"] = regexp.QuoteMeta(m.Prefix)+".*", true
		case m.Suffix != "":
			condition["value"], condition["regex"] = ".*"+regexp.QuoteMeta(m.Suffix), true
		}
		all = append(all, condition)
	}
	return all
}
