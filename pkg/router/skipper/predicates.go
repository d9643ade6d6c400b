package skipper

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

const conjunction = " && "

// usersPredicates are those of the user's Ingress, which hold for both sides, without what decides between the two Ingresses.
func usersPredicates(annotation string) []string {
	var predicates []string
	for part := range strings.SplitSeq(annotation, strings.TrimSpace(conjunction)) {
		if part = strings.TrimSpace(part); part != "" && part != preferred && part != disabled {
			predicates = append(predicates, part)
		}
	}
	return predicates
}

// maxMatches is how many matches an A/B test may have. Each is an Ingress of its own.
const maxMatches = 8

// matchPredicates returns, for each match of the analysis, what a request has to meet, sorted by name so that two renderings are
// equal. An Ingress has one list of predicates, of which all have to hold, so there is no "or" within one.
func matchPredicates(c *v1beta1.Canary) ([][]string, error) {
	if err := (router.Conditions{System: "Skipper", QueryParams: true}).Check(c); err != nil {
		return nil, err
	}
	match := c.GetAnalysis().Match
	if len(match) > maxMatches {
		return nil, &router.FieldError{Field: fmt.Sprintf("spec.analysis.match[%d]", maxMatches), Message: fmt.Sprintf(
			"Skipper gets an Ingress for each match, and not more than %d: put conditions together, or remove it", maxMatches)}
	}
	var all [][]string
	for _, m := range match {
		var predicates []string
		for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
			predicates = append(predicates, header(name, m.Headers[name]))
		}
		for _, name := range slices.Sorted(maps.Keys(m.QueryParams)) {
			predicates = append(predicates, predicate("QueryParam", name, pattern(m.QueryParams[name])))
		}
		all = append(all, predicates)
	}
	return all, nil
}

func header(name string, m v1beta1.StringMatch) string {
	if m.Exact != "" {
		return predicate("Header", name, m.Exact)
	}
	return predicate("HeaderRegexp", name, pattern(m))
}

// pattern is a regular expression for a match. Skipper looks for it anywhere in the value.
func pattern(m v1beta1.StringMatch) string {
	switch {
	case m.Exact != "":
		return "^" + regexp.QuoteMeta(m.Exact) + "$"
	case m.Prefix != "":
		return "^" + regexp.QuoteMeta(m.Prefix)
	case m.Suffix != "":
		return regexp.QuoteMeta(m.Suffix) + "$"
	case m.Regex != "":
		return m.Regex
	default:
		return ".*"
	}
}

func predicate(name, field, value string) string {
	return fmt.Sprintf("%s(%s, %s)", name, strconv.Quote(field), strconv.Quote(value))
}
