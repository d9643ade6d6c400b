package router

import (
	"fmt"
	"strings"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Conditions are what a mesh or an ingress can tell the requests of an A/B test apart by, beside their headers.
type Conditions struct {
	// System is its name in messages.
	System string
	// QueryParams and SourceLabels stand for the fields of analysis.match.
	QueryParams, SourceLabels bool
}

// Check refuses entries of analysis.match that have other conditions, or none.
func (k Conditions) Check(c *v1beta1.Canary) error {
	instead := []string{"headers"}
	if k.QueryParams {
		instead = append(instead, "queryParams")
	}
	if k.SourceLabels {
		instead = append(instead, "sourceLabels")
	}
	match := c.GetAnalysis().Match
	for i := range match {
		m, field := &match[i], fmt.Sprintf("spec.analysis.match[%d]", i)
		switch {
		case len(m.SourceLabels) > 0 && !k.SourceLabels:
			return &FieldError{Field: field + ".sourceLabels", Message: fmt.Sprintf(
				"%s can't match the labels of the client: match %s instead", k.System, strings.Join(instead, " or "))}
		case len(m.QueryParams) > 0 && !k.QueryParams:
			return &FieldError{Field: field + ".queryParams", Message: fmt.Sprintf(
				"%s can't match query parameters: match headers instead", k.System)}
		case len(m.Headers)+len(m.QueryParams)+len(m.SourceLabels) == 0:
			return &FieldError{Field: field, Message: fmt.Sprintf(
				"has no condition, so that every request would meet it: add %s, or remove it", strings.Join(instead, " or "))}
		}
	}
	return nil
}
