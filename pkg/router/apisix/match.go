package apisix

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	apisixconst "github.com/apache/apisix-ingress-controller/pkg/kube/apisix/const"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// expressions returns, for each match of the analysis, the conditions that a request has to meet, all of them. They are sorted
// by name, so that two renderings are equal.
func expressions(c *v1beta1.Canary) ([][]any, error) {
	if err := (router.Conditions{System: "APISIX", QueryParams: true}).Check(c); err != nil {
		return nil, err
	}
	var all [][]any
	for _, m := range c.GetAnalysis().Match {
		var conditions []any
		for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
			conditions = append(conditions, expression(apisixconst.ScopeHeader, name, m.Headers[name]))
		}
		for _, name := range slices.Sorted(maps.Keys(m.QueryParams)) {
			conditions = append(conditions, expression(apisixconst.ScopeQuery, name, m.QueryParams[name]))
		}
		all = append(all, conditions)
	}
	return all, nil
}

// expression is written by hand: the type of the controller has null for what is not set, which the API server drops.
func expression(scope, name string, m v1beta1.StringMatch) map[string]any {
	op, value := apisixconst.OpRegexMatch, ".*"
	switch {
	case m.Exact != "":
		op, value = apisixconst.OpEqual, m.Exact
	case m.Prefix != "":
		value = "^" + regexp.QuoteMeta(m.Prefix)
	case m.Suffix != "":
		value = regexp.QuoteMeta(m.Suffix) + "$"
	case m.Regex != "":
		value = m.Regex
	}
	return map[string]any{"subject": map[string]any{"scope": scope, "name": name}, "op": op, "value": value}
}

// Advise warns of a route whose requests the built-in metrics can't tell apart. They look for the name of the route, which APISIX
// exports only if the plugin prometheus is told to.
func (p *Provider) Advise(c *v1beta1.Canary, sources router.Live) []string {
	if !slices.ContainsFunc(c.GetAnalysis().Metrics, isBuiltIn) {
		return nil
	}
	source, err := p.source(c, sources)
	if err != nil {
		return nil
	}
	rules, err := rulesOf(c, source)
	if err != nil || !slices.ContainsFunc(rules, lacksNames) {
		return nil
	}
	return []string{fmt.Sprintf("Built-in metrics have no values for ApisixRoute %s.%s: enable the plugin prometheus with "+
		"prefer_name: true in its rule for Service %s", source.GetName(), source.GetNamespace(), router.NamesOf(c).Apex)}
}

func isBuiltIn(m v1beta1.CanaryMetric) bool {
	return m.TemplateRef == nil && m.Query == "" &&
		(m.Name == v1beta1.MetricRequestSuccessRate || m.Name == v1beta1.MetricRequestDuration)
}

// lacksNames is whether the metrics of a rule come without its name.
func lacksNames(rule map[string]any) bool {
	plugins, _ := rule["plugins"].([]any) //nolint:errcheck // what is no list has no plugins
	return !slices.ContainsFunc(plugins, func(item any) bool {
		plugin, ok := item.(map[string]any)
		if !ok || plugin["name"] != "prometheus" || plugin["enable"] != true {
			return false
		}
		config, ok := plugin["config"].(map[string]any)
		return ok && config["prefer_name"] == true
	})
}
