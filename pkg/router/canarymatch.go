package router

import (
	"errors"
	"strings"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// SharesOut tells whether the canary has a share of all requests, so that those of analysis.canaryMatch all go to it.
func (t Traffic) SharesOut() bool { return t.Canary > 0 && !t.Matched }

// CanaryMatches translates analysis.canaryMatch by what translates analysis.match. A fault names the former.
func CanaryMatches[T any](c *v1beta1.Canary, translate func(*v1beta1.Canary) (T, error)) (T, error) {
	analysis := *c.GetAnalysis()
	analysis.Match = analysis.CanaryMatch
	always := *c
	always.Spec.Analysis, always.Spec.CanaryAnalysis = &analysis, nil
	result, err := translate(&always)
	var fault *FieldError
	if errors.As(err, &fault) {
		err = &FieldError{Field: strings.Replace(fault.Field, "analysis.match", "analysis.canaryMatch", 1), Message: fault.Message}
	}
	return result, err
}
