package router

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp/syntax"
	"slices"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// checkRegex lists the regular expressions that a proxy with RE2 can't read. Envoy refuses all routes of a listener for the sake of one
// of them: weights stop moving, for others as well, and nothing but its log says so.
func checkRegex(c *v1beta1.Canary) []*FieldError {
	var faults []*FieldError
	check := func(field string, m v1beta1.StringMatch) {
		_, err := syntax.Parse(m.Regex, syntax.Perl)
		var fault *syntax.Error
		if errors.As(err, &fault) {
			faults = append(faults, &FieldError{Field: field + ".regex", Message: fmt.Sprintf(
				"%s in %q: the provider takes the syntax of RE2, which has no look-ahead, look-behind or back-references", fault.Code, fault.Expr)})
		}
	}
	all := func(field string, conditions map[string]v1beta1.StringMatch) {
		for _, name := range slices.Sorted(maps.Keys(conditions)) {
			check(fmt.Sprintf("%s[%s]", field, name), conditions[name])
		}
	}
	analysis := c.GetAnalysis()
	for list, matches := range map[string][]v1beta1.AnalysisMatch{"match": analysis.Match, "canaryMatch": analysis.CanaryMatch} {
		for i := range matches {
			field := fmt.Sprintf("spec.analysis.%s[%d]", list, i)
			all(field+".headers", matches[i].Headers)
			all(field+".queryParams", matches[i].QueryParams)
		}
	}
	for i := range c.Spec.Service.Match {
		m, field := &c.Spec.Service.Match[i], fmt.Sprintf("spec.service.match[%d]", i)
		for name, condition := range map[string]*v1beta1.StringMatch{
			"uri": m.URI, "scheme": m.Scheme, "method": m.Method, "authority": m.Authority,
		} {
			if condition != nil {
				check(field+"."+name, *condition)
			}
		}
		all(field+".headers", m.Headers)
		all(field+".withoutHeaders", m.WithoutHeaders)
		all(field+".queryParams", m.QueryParams)
	}
	if cors := c.Spec.Service.CorsPolicy; cors != nil {
		for i, origin := range cors.AllowOrigins {
			check(fmt.Sprintf("spec.service.corsPolicy.allowOrigins[%d]", i), origin)
		}
	}
	slices.SortFunc(faults, func(a, b *FieldError) int { return cmp.Compare(a.Field, b.Field) })
	return faults
}
