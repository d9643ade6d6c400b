package v1beta1_test

import (
	"testing"
	"time"

	flaggerv1 "flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func TestAnalysisInterval(t *testing.T) {
	tests := map[string]time.Duration{
		"":            60 * time.Second,
		"1m":          60 * time.Second,
		"1h":          time.Hour,
		"1m30s":       90 * time.Second,
		"9s":          10 * time.Second,
		"-1m":         10 * time.Second,
		"1min":        60 * time.Second,
		"9999999999h": 60 * time.Second,
	}
	for interval, want := range tests {
		c := &flaggerv1.Canary{Spec: flaggerv1.CanarySpec{Analysis: &flaggerv1.CanaryAnalysis{Interval: interval}}}
		if got := c.GetAnalysisInterval(flaggerv1.MinAnalysisInterval); got != want {
			t.Errorf("interval %q: %s, want %s", interval, got, want)
		}
	}
	c := &flaggerv1.Canary{Spec: flaggerv1.CanarySpec{Analysis: &flaggerv1.CanaryAnalysis{Interval: "1s"}}}
	if got := c.GetAnalysisInterval(100 * time.Millisecond); got != time.Second {
		t.Errorf("interval 1s with a minimum of 100ms: %s", got)
	}
}

func TestStrategy(t *testing.T) {
	match := []flaggerv1.AnalysisMatch{{Headers: map[string]flaggerv1.StringMatch{"x": {Exact: "y"}}}}
	tests := map[string]struct {
		analysis flaggerv1.CanaryAnalysis
		want     string
	}{
		"weights":            {flaggerv1.CanaryAnalysis{StepWeight: 10}, "canary"},
		"weights with match": {flaggerv1.CanaryAnalysis{StepWeight: 10, Match: match}, "canary"},
		"iterations":         {flaggerv1.CanaryAnalysis{Iterations: 10}, "blue-green"},
		"a/b":                {flaggerv1.CanaryAnalysis{Iterations: 10, Match: match}, "ab-testing"},
	}
	for name, test := range tests {
		c := &flaggerv1.Canary{Spec: flaggerv1.CanarySpec{Analysis: &test.analysis}}
		if got := c.DeploymentStrategy(); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// C-08: a Canary without analysis stopped the operator.
func TestC08CanaryWithoutAnalysis(t *testing.T) {
	c := &flaggerv1.Canary{}
	if !c.SkipAnalysis() {
		t.Error("no analysis, and yet it is not skipped")
	}
	if got := c.GetAnalysisThreshold(); got != 1 {
		t.Errorf("threshold %d, want 1", got)
	}
	if primary, canary := c.GetAnalysisPrimaryReadyThreshold(), c.GetAnalysisCanaryReadyThreshold(); primary != 100 || canary != 100 {
		t.Errorf("ready thresholds %d and %d, want 100", primary, canary)
	}
	if got := c.GetProgressDeadlineSeconds(); got != 600 {
		t.Errorf("progress deadline %d, want 600", got)
	}
}

func TestOldNameOfAnalysis(t *testing.T) {
	old, current := &flaggerv1.CanaryAnalysis{Threshold: 1}, &flaggerv1.CanaryAnalysis{Threshold: 2}
	c := &flaggerv1.Canary{Spec: flaggerv1.CanarySpec{CanaryAnalysis: old}}
	if c.GetAnalysis() != old || c.SkipAnalysis() {
		t.Error("canaryAnalysis is ignored")
	}
	c.Spec.Analysis = current
	if c.GetAnalysis() != current {
		t.Error("canaryAnalysis wins over analysis")
	}
	c.Spec.SkipAnalysis = true
	if !c.SkipAnalysis() {
		t.Error("skipAnalysis is ignored")
	}
}

func TestServiceNames(t *testing.T) {
	c := &flaggerv1.Canary{Spec: flaggerv1.CanarySpec{TargetRef: flaggerv1.LocalObjectReference{Name: "podinfo"}}}
	if apex, primary, canary := c.GetServiceNames(); apex != "podinfo" || primary != "podinfo-primary" || canary != "podinfo-canary" {
		t.Errorf("names by target: %s %s %s", apex, primary, canary)
	}
	c.Spec.Service.Name = "web"
	if apex, primary, canary := c.GetServiceNames(); apex != "web" || primary != "web-primary" || canary != "web-canary" {
		t.Errorf("names by service: %s %s %s", apex, primary, canary)
	}
}

// B-02: alerts without severity were never sent.
func TestB02AlertsWithoutSeverityAreInfo(t *testing.T) {
	if got := (&flaggerv1.CanaryAlert{}).GetSeverity(); got != flaggerv1.SeverityInfo {
		t.Errorf("severity %q, want info", got)
	}
}

// B-10: templates got no interval.
func TestB10MetricsWithoutIntervalHaveOneMinute(t *testing.T) {
	if got := (&flaggerv1.CanaryMetric{}).GetMetricInterval(); got != "1m" {
		t.Errorf("interval %q, want 1m", got)
	}
	if got := (&flaggerv1.CanaryMetric{Interval: "30s"}).GetMetricInterval(); got != "30s" {
		t.Errorf("interval %q, want 30s", got)
	}
}
