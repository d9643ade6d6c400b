// Package rule translates the matches of an A/B test into a rule of Traefik.
package rule

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

// Of returns the rule that a request of the A/B test has to meet: one of the matches, each with all its conditions. They are
// sorted by name, so that two renderings are equal. It is empty where there is no match.
func Of(c *v1beta1.Canary) (string, error) {
	var alternatives []string
	if err := (router.Conditions{System: "Traefik", QueryParams: true}).Check(c); err != nil {
		return "", err
	}
	for _, m := range c.GetAnalysis().Match {
		var conditions []string
		for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
			conditions = append(conditions, matcher("Header", name, m.Headers[name]))
		}
		for _, name := range slices.Sorted(maps.Keys(m.QueryParams)) {
			conditions = append(conditions, matcher("Query", name, m.QueryParams[name]))
		}
		alternatives = append(alternatives, strings.Join(conditions, " && "))
	}
	if len(alternatives) < 2 {
		return strings.Join(alternatives, ""), nil
	}
	return "(" + strings.Join(alternatives, ") || (") + ")", nil
}

// matcher is a condition on a header or a query parameter. An expression of a user is one for the whole value, as it is in Envoy,
// whereas Traefik looks for it anywhere.
func matcher(kind, name string, m v1beta1.StringMatch) string {
	value := ".*"
	switch {
	case m.Exact != "":
		return fmt.Sprintf("%s(%s, %s)", kind, literal(name), literal(m.Exact))
	case m.Prefix != "":
		value = "^" + regexp.QuoteMeta(m.Prefix)
	case m.Suffix != "":
		value = regexp.QuoteMeta(m.Suffix) + "$"
	case m.Regex != "":
		value = "^(?:" + m.Regex + ")$"
	}
	return fmt.Sprintf("%sRegexp(%s, %s)", kind, literal(name), literal(value))
}

// literal is a string in a rule, in the form that its documentation uses where that can hold it.
func literal(text string) string {
	if strings.Contains(text, "`") {
		return strconv.Quote(text)
	}
	return "`" + text + "`"
}
