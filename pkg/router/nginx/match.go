package nginx

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// cookieHeader in a match stands for a cookie: exact is its name. NGINX leads requests to the canary whose cookie of that name
// has the value "always".
const cookieHeader = "cookie"

// rulesOf returns the annotations, without prefix, that lead the requests of a match to the canary: those with the header as
// well as those with the cookie. NGINX has room for one of each.
func rulesOf(c *v1beta1.Canary) (map[string]string, error) {
	if err := (router.Conditions{System: "NGINX"}).Check(c); err != nil {
		return nil, err
	}
	rules, match := map[string]string{}, c.GetAnalysis().Match
	for i := range match {
		field := fmt.Sprintf("spec.analysis.match[%d]", i)
		for _, name := range slices.Sorted(maps.Keys(match[i].Headers)) {
			if err := addRule(rules, fmt.Sprintf("%s.headers[%s]", field, name), name, match[i].Headers[name]); err != nil {
				return nil, err
			}
		}
	}
	return rules, nil
}

func addRule(rules map[string]string, field, name string, m v1beta1.StringMatch) error {
	key, value := headerKey, name
	if name == cookieHeader {
		key, value = cookieKey, m.Exact
		if m.Exact == "" {
			return &router.FieldError{Field: field, Message: "NGINX matches a cookie by its name, with the value \"always\": " +
				"set exact to the name of the cookie"}
		}
	}
	if _, taken := rules[key]; taken {
		return &router.FieldError{Field: field, Message: "NGINX matches one header and one cookie, and there is another: remove one"}
	}
	rules[key] = value
	if key == cookieKey {
		return nil
	}
	switch {
	case m.Exact != "":
		rules[valueKey] = m.Exact
	case m.Regex != "":
		rules[patternKey] = m.Regex
	case m.Prefix != "":
		rules[patternKey] = "^" + regexp.QuoteMeta(m.Prefix)
	case m.Suffix != "":
		rules[patternKey] = regexp.QuoteMeta(m.Suffix) + "$"
	default:
		// The header alone would have to say "always".
		rules[patternKey] = ".*"
	}
	return nil
}
