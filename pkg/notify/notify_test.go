package notify

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func canary(analysis v1beta1.CanaryAnalysis) *v1beta1.Canary {
	c := &v1beta1.Canary{}
	c.Namespace, c.Name = "default", "podinfo"
	c.Spec.TargetRef = v1beta1.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "podinfo"}
	c.Spec.Analysis = &analysis
	return c
}

func TestFields(t *testing.T) {
	deadline := int32(60)
	progressive := canary(v1beta1.CanaryAnalysis{Threshold: 10, StepWeight: 10, MaxWeight: 50})
	short := progressive.DeepCopy()
	short.Spec.ProgressDeadlineSeconds = &deadline
	common := func(routing string, threshold, deadline string) []Field {
		fields := []Field{{"Target", "Deployment/podinfo.default"}, {"Failed checks threshold", threshold}, {"Progress deadline", deadline}}
		if routing != "" {
			fields = append(fields, Field{"Traffic routing", routing})
		}
		return fields
	}
	match := []v1beta1.AnalysisMatch{{}}
	for name, tc := range map[string]struct {
		canary  *v1beta1.Canary
		cluster string
		details bool
		want    []Field
	}{
		"none":                      {progressive, "", false, nil},
		"cluster only":              {progressive, "prod-1", false, []Field{{"Cluster", "prod-1"}}},
		"progressive":               {progressive, "", true, common("Weight step: 10 max: 50", "10", "600s")},
		"with cluster and deadline": {short, "prod-1", true, append([]Field{{"Cluster", "prod-1"}}, common("Weight step: 10 max: 50", "10", "60s")...)},
		"steps":                     {canary(v1beta1.CanaryAnalysis{StepWeights: []int32{1, 10, 80}}), "", true, common("Weight steps: 1,10,80 max: 0", "0", "600s")},
		"blue/green":                {canary(v1beta1.CanaryAnalysis{Iterations: 3, StepWeight: 5}), "", true, common("Blue/Green", "0", "600s")},
		"A/B":                       {canary(v1beta1.CanaryAnalysis{Iterations: 3, Match: match}), "", true, common("A/B Testing", "0", "600s")},
		"neither":                   {canary(v1beta1.CanaryAnalysis{}), "", true, common("", "0", "600s")},
		"no analysis": {&v1beta1.Canary{}, "", true, []Field{
			{"Target", "/."}, {"Failed checks threshold", "0"}, {"Progress deadline", "600s"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := NewAlert(tc.canary, v1beta1.SeverityInfo, "New revision detected, progressing canary analysis.", tc.cluster, tc.details)
			want := Alert{
				Namespace: tc.canary.Namespace,
				Name:      tc.canary.Name,
				Severity:  "info",
				Message:   "New revision detected, progressing canary analysis.",
				Fields:    tc.want,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLog(t *testing.T) {
	var lines []string
	logger := funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})
	alert := NewAlert(canary(v1beta1.CanaryAnalysis{}), v1beta1.SeverityWarn, "Canary is waiting for approval.", "prod", false)
	failed := alert
	failed.Severity = v1beta1.SeverityError
	for _, a := range []Alert{alert, failed} {
		if err := (Log{logger}).Notify(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		`"level"=0 "msg"="Canary is waiting for approval." "canary"="podinfo.default" "severity"="warn" "Cluster"="prod"`,
		`"msg"="Canary is waiting for approval." "error"=null "canary"="podinfo.default" "severity"="error" "Cluster"="prod"`,
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

type receiver struct {
	got []Alert
	err error
}

func (r *receiver) Notify(_ context.Context, a Alert) error {
	r.got = append(r.got, a)
	return r.err
}

func TestAllAreNotified(t *testing.T) {
	first, second, third := &receiver{err: errors.New("one is down")}, &receiver{}, &receiver{err: errors.New("three is down")}
	err := All{first, second, third}.Notify(t.Context(), Alert{Message: "x"})
	if len(first.got) != 1 || len(second.got) != 1 || len(third.got) != 1 {
		t.Error("a failure kept others from being notified")
	}
	if err == nil || !strings.Contains(err.Error(), "one is down") || !strings.Contains(err.Error(), "three is down") {
		t.Errorf("error %v", err)
	}
	if err := (All{second}).Notify(t.Context(), Alert{}); err != nil {
		t.Error(err)
	}
}

func TestPasses(t *testing.T) {
	const info, warn, fatal = v1beta1.SeverityInfo, v1beta1.SeverityWarn, v1beta1.SeverityError
	for _, tc := range []struct {
		severity, min v1beta1.AlertSeverity
		want          bool
	}{
		{info, info, true}, {warn, info, true}, {fatal, info, true},
		{info, warn, false}, {warn, warn, true}, {fatal, warn, true},
		{info, fatal, false}, {warn, fatal, false}, {fatal, fatal, true},
		// B-02: without a severity nothing was sent.
		{info, "", true}, {fatal, "", true},
		{fatal, "loud", false}, {"loud", info, false},
	} {
		if got := Passes(tc.severity, tc.min); got != tc.want {
			t.Errorf("%q with minimum %q: %v", tc.severity, tc.min, got)
		}
	}
}
