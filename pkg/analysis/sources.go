package analysis

import "flagger.app/flagger/pkg/apis/flagger/v1beta1"

// Sources are the evaluations that an entry of spec.analysis.metrics asks for, never empty. A built-in metric is meant only
// where the entry has neither a query nor a templateRef, so that an entry of that name is not judged by two different
// values.
func Sources(m v1beta1.CanaryMetric) []Source {
	var sources []Source
	if m.Query != "" {
		sources = append(sources, Inline)
	}
	if m.TemplateRef != nil {
		sources = append(sources, Template)
	}
	if len(sources) > 0 {
		return sources
	}
	if source, ok := builtIns(m.Name); ok {
		return []Source{source}
	}
	return []Source{None}
}

func builtIns(name string) (Source, bool) {
	switch name {
	case v1beta1.MetricRequestSuccessRate, v1beta1.MetricIstioRequestsTotal:
		return SuccessRate, true
	case v1beta1.MetricRequestDuration, v1beta1.MetricIstioDuration:
		return Duration, true
	}
	return None, false
}
