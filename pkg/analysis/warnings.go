package analysis

import (
	"fmt"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Warnings lists what in the metrics of a Canary is valid and yet hardly meant: thresholds that nothing or everything
// keeps, and entries with more than one source. Each text names the field and says what to do.
func Warnings(c *v1beta1.Canary) []string {
	field, analysis := "spec.analysis", c.Spec.Analysis
	if analysis == nil {
		field, analysis = "spec.canaryAnalysis", c.Spec.CanaryAnalysis
	}
	if analysis == nil {
		return nil
	}
	var warnings []string
	for i, m := range analysis.Metrics {
		path := fmt.Sprintf("%s.metrics[%d]", field, i)
		for _, warning := range []string{thresholdWarning(m, path), sourceWarning(m, path)} {
			if warning != "" {
				warnings = append(warnings, fmt.Sprintf("%s (%s) %s", path, m.Name, warning))
			}
		}
	}
	return warnings
}

func thresholdWarning(m v1beta1.CanaryMetric, path string) string {
	r := m.ThresholdRange
	switch {
	case r != nil && r.Min == nil && r.Max == nil:
		return fmt.Sprintf("has an empty thresholdRange and passes with any value: set %s.thresholdRange.min or max", path)
	case r != nil && r.Min != nil && r.Max != nil && *r.Min > *r.Max:
		return fmt.Sprintf("fails with any value, because %s.thresholdRange.min is greater than max: exchange them", path)
	case r != nil || m.Threshold != 0 || m.Comparison != nil:
		return ""
	case Sources(m)[0] == SuccessRate:
		return fmt.Sprintf("has no thresholdRange and passes with any value: set %s.thresholdRange.min", path)
	default:
		return fmt.Sprintf("has no thresholdRange and fails with any value above 0: set %s.thresholdRange.max", path)
	}
}

func sourceWarning(m v1beta1.CanaryMetric, path string) string {
	_, builtIn := builtIns(m.Name)
	switch {
	case m.Query != "" && m.TemplateRef != nil:
		return fmt.Sprintf("has both a query and a templateRef and is evaluated with each of them: remove %s.query", path)
	case builtIn && m.Query != "":
		return fmt.Sprintf("has the name of a built-in metric and evaluates its query instead: rename it, or remove %s.query", path)
	case builtIn && m.TemplateRef != nil:
		return fmt.Sprintf("has the name of a built-in metric and evaluates its template instead: rename it, or remove %s.templateRef", path)
	}
	return ""
}
