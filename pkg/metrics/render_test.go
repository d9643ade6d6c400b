package metrics

import (
	"strings"
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func TestRender(t *testing.T) {
	c := canary(func(c *v1beta1.Canary) {
		c.Spec.IngressRef = &v1beta1.LocalObjectReference{Name: "ing"}
		c.Spec.RouteRef = &v1beta1.LocalObjectReference{Name: "rt"}
		c.Spec.Service.Name = "svc"
	})
	plain := canary(nil)
	variables := map[string]string{"code": "5..", "empty": ""}
	for name, tc := range map[string]struct {
		canary *v1beta1.Canary
		metric v1beta1.CanaryMetric
		query  string
		want   string
	}{
		"all functions": {c, v1beta1.CanaryMetric{Interval: "30s"}, "{{ name }} {{ namespace }} {{ target }} {{ service }} {{ ingress }} {{ route }} {{ interval }}",
			"podinfo-canary test podinfo svc ing rt 30s"},
		"defaults":               {plain, v1beta1.CanaryMetric{}, "{{ service }} {{ ingress }} {{ route }}", "podinfo podinfo podinfo"},
		"B-10 default interval":  {plain, v1beta1.CanaryMetric{TemplateRef: &v1beta1.CrossNamespaceObjectReference{Name: "t"}}, "[{{ interval }}]", "[1m]"},
		"fraction of a minute":   {plain, v1beta1.CanaryMetric{Interval: "1.5m"}, "[{{ interval }}]", "[90000ms]"},
		"compound interval":      {plain, v1beta1.CanaryMetric{Interval: "1m30s"}, "[{{ interval }}]", "[1m30s]"},
		"not a duration":         {plain, v1beta1.CanaryMetric{Interval: "1.x"}, "[{{ interval }}]", "[1.x]"},
		"variables":              {plain, v1beta1.CanaryMetric{TemplateVariables: variables}, `{{ variables.code }}{{ variables.empty }}{{ index variables "code" }}`, "5..5.."},
		"builtins and branches":  {plain, v1beta1.CanaryMetric{TemplateVariables: variables}, `{{ if eq namespace "test" }}{{ printf "%s-x" target }}{{ else }}no{{ end }}{{ with interval }}{{ . }}{{ end }}`, "podinfo-x1m"},
		"nothing to render":      {plain, v1beta1.CanaryMetric{}, "", ""},
		"no HTML escaping":       {plain, v1beta1.CanaryMetric{}, `up{a="<&>"} > 1`, `up{a="<&>"} > 1`},
		"comment":                {plain, v1beta1.CanaryMetric{}, `{{/* why */}}up`, `up`},
		"assignment to variable": {plain, v1beta1.CanaryMetric{}, `{{ $x := target }}{{ $x }}`, `podinfo`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Render(tc.query, NewVars(tc.canary, tc.metric))
			if err != nil || got != tc.want {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

// B-12: errors of rendering were swallowed.
func TestB12RenderErrors(t *testing.T) {
	for name, tc := range map[string]struct{ query, says string }{
		"missing variable":    {"{{ variables.nope }}", `no entry for key "nope"`},
		"unknown function":    {"{{ targett }}", `function "targett" not defined`},
		"not closed":          {"{{ target", "unclosed action"},
		"internal function":   {"{{ pods }}", `function "pods" not defined`},
		"endless":             {"{{ range 1000000000000 }}{{ end }}", "not supported"},
		"endless in a branch": {"{{ if true }}{{ else }}{{ with target }}{{ range 1000000000000 }}{{ end }}{{ end }}{{ end }}", "not supported"},
		"recursive":           {`{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}`, "not supported"},
		"calls itself":        {`{{ template "query" }}`, "not supported"},
		"too long to parse":   {strings.Repeat("{{ if 1 }}", 100000), "longer than"},
		"too long":            {`{{ $x := printf "%1000000d" 1 }}{{ $x }}{{ $x }}`, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Render(tc.query, NewVars(canary(nil), v1beta1.CanaryMetric{}))
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %q, %v; want an error with %q", got, err, tc.says)
			}
		})
	}
}

// FuzzRender checks that no text makes rendering panic, hang or grow without limit.
func FuzzRender(f *testing.F) {
	for _, o := range observers() {
		f.Add(o.successRate())
		f.Add(o.latency)
	}
	f.Add(`{{ range variables }}{{ . }}{{ end }}`)
	f.Add(`{{ if eq target "x" }}{{ with variables.a }}{{ . }}{{ end }}{{ else }}{{ index variables "a" }}{{ end }}`)
	f.Add(`{{ block "x" . }}{{ end }}{{ break }}{{ $a := 1 }}{{ $a = 2 }}{{ slice "abc" 1 2 }}{{ call target }}`)
	vars := NewVars(canary(nil), v1beta1.CanaryMetric{TemplateVariables: map[string]string{"a": "b"}})
	f.Fuzz(func(t *testing.T, query string) {
		text, err := Render(query, vars)
		if len(text) > maxQuery || (err != nil && text != "") {
			t.Errorf("%d bytes, %v", len(text), err)
		}
	})
}
