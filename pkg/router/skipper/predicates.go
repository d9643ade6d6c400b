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

// matchPredicates returns what a request of an A/B test has to meet, sorted by name so that two renderings are equal. A route
// has one list of predicates, of which all have to hold, so there is no "or".
func matchPredicates(c *v1beta1.Canary) ([]string, error) {
	match := c.GetAnalysis().Match
	if len(match) == 0 {
		return nil, nil
	}
	fault := func(field, message string) error {
		return &router.FieldError{Field: "spec.analysis.match" + field, Message: message}
	}
	m := &match[0]
	switch {
	case len(match) > 1:
		return nil, fault("[1]", "Skipper can't lead requests by one match or another: put all conditions into one, or remove it")
	case len(m.SourceLabels) > 0:
		return nil, fault("[0].sourceLabels", "Skipper can't match the labels of the client: match headers or query parameters instead")
	case len(m.Headers)+len(m.QueryParams) == 0:
		return nil, fault("[0]", "has no condition: add headers or queryParams, or remove it")
	}
	var predicates []string
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		predicates = append(predicates, header(name, m.Headers[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(m.QueryParams)) {
		predicates = append(predicates, predicate("QueryParam", name, pattern(m.QueryParams[name])))
	}
	return predicates, nil
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
