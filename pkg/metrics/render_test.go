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
		"range":                  {plain, v1beta1.CanaryMetric{TemplateVariables: variables}, `{{ range $k, $v := variables }}{{ $k }}=~"{{ $v }}",{{ end }}`, `code=~"5..",empty=~"",`},
		"range over numbers":     {plain, v1beta1.CanaryMetric{}, `{{ range $i := 3 }}{{ if $i }}|{{ end }}{{ target }}-{{ $i }}{{ else }}none{{ end }}`, `podinfo-0|podinfo-1|podinfo-2`},
		"range, left early":      {plain, v1beta1.CanaryMetric{}, `{{ range $i := 9 }}{{ if eq $i 2 }}{{ break }}{{ end }}{{ $i }}{{ end }}`, `01`},
		"range over nothing":     {plain, v1beta1.CanaryMetric{}, `{{ range variables }}x{{ else }}none{{ end }}`, `none`},
		"defined and used":       {plain, v1beta1.CanaryMetric{}, `{{ define "sum" }}sum(rate({{ . }}[{{ interval }}])){{ end }}{{ template "sum" "a" }}/{{ template "sum" "b" }}`, `sum(rate(a[1m]))/sum(rate(b[1m]))`},
		"block":                  {plain, v1beta1.CanaryMetric{}, `{{ block "pod" target }}pod=~"{{ . }}-.+"{{ end }}`, `pod=~"podinfo-.+"`},
		"texts":                  {plain, v1beta1.CanaryMetric{}, `{{ print target 1 2 }} {{ println target }}{{ html "<" }} {{ js "'" }} {{ urlquery "a b" }} {{ printf "%5.1f|%-9s|%q" 1.25 target "x" }}`, "podinfo1 2 podinfo\n&lt; \\' a+b   1.2|podinfo  |\"x\""},
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
		"endless":             {"{{ range 1000000000000 }}{{ end }}", "too long to render"},
		"long conditions":     {"{{ range 9000 }}{{ if eq 0" + strings.Repeat(" 1", 30000) + " }}{{ end }}{{ end }}", "too long to render"},
		"long pipelines":      {"{{ range 9000 }}{{ if 1" + strings.Repeat("|not", 15000) + " }}{{ end }}{{ end }}", "too long to render"},
		"endless in a branch": {"{{ if true }}{{ else }}{{ end }}{{ with target }}{{ range 1000000000000 }}{{ end }}{{ end }}", "too long to render"},
		"endless in a loop":   {"{{ range 1000000 }}{{ range 1000000 }}{{ range 1000000 }}{{ continue }}{{ end }}{{ end }}{{ end }}", "too long to render"},
		"recursive":           {`{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}`, "too long to render"},
		"calls itself":        {`{{ template "query" }}`, "too long to render"},
		"deep and recursive":  {`{{ define "x" }}` + strings.Repeat("{{ if 1 }}", 3000) + `{{ template "x" }}` + strings.Repeat("{{ end }}", 3000) + `{{ end }}{{ template "x" }}`, "too long to render"},
		"doubles a text":      {`{{ $x := target }}{{ range 100 }}{{ $x = printf "%s%s" $x $x }}{{ end }}`, "longer than"},
		"prints it twice":     {`{{ $x := target }}{{ range 100 }}{{ $x = print $x $x }}{{ end }}`, "longer than"},
		"escapes an escape":   {`{{ $x := "\\" }}{{ range 100 }}{{ $x = js $x }}{{ end }}`, "longer than"},
		"wide":                {`{{ range 100000 }}{{ $x := printf "%*d" 60000 1 }}{{ end }}`, "too long to render"},
		"wider":               {`{{ printf "%*d" 100000000 1 }}`, "longer than"},
		"many verbs":          {`{{ $x := printf "%60000d" 1 }}{{ printf "` + strings.Repeat("%[1]s", 10000) + `" $x }}`, "longer than"},
		"not theirs":          {`{{ spend -1 }}`, `function "spend" not defined`},
		"unknown template":    {`{{ template "y" }}`, `template "y" not defined`},
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
	for _, observed := range observers() {
		o := observed()
		f.Add(o.successRate())
		f.Add(o.latency)
	}
	f.Add(`{{ range variables }}{{ . }}{{ end }}`)
	f.Add(`{{ define "x" }}{{ template "x" . }}{{ end }}{{ template "x" 1 }}`)
	f.Add(`{{ $x := "a" }}{{ range 99 }}{{ $x = printf "%s%*d" $x 9 1 }}{{ $x = js $x | html | urlquery }}{{ continue }}{{ end }}`)
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

// What dashboards and tutorials leave to be filled in is sent by nobody: as part of a label it would be a value that no series has.
func TestPlaceholders(t *testing.T) {
	for query, want := range map[string]string{
		`up{namespace="$namespace"}`:                                   "$namespace: write {{ namespace }}",
		`up{namespace="test", pod=~"$pod"}`:                            "$pod: write a function such as {{ target }}",
		`rate(x[$__rate_interval])`:                                    "$__rate_interval: write {{ interval }}",
		`rate(x{a="${workload}"}[1m])`:                                 "${workload}: write {{ target }}",
		`up{namespace="test", pod=~"podinfo$"}`:                        "",
		`up{pod=~"a$|b$"}`:                                             "",
		`label_replace(up, "a", "$1-${2}", "b", "(.*)-(.*)")`:          "",
		`label_replace(up, "a", "$name", "b", "(?P<name>.*)-primary")`: "",
	} {
		err := filledIn(query)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", query, err, want)
		}
	}
}
