package promql

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"sigs.k8s.io/yaml"
)

// ruleTests is what promtool test rules reads.
type ruleTests struct {
	RuleFiles          []string       `json:"rule_files"`
	EvaluationInterval model.Duration `json:"evaluation_interval"`
	Tests              []ruleTest     `json:"tests"`
}

type ruleTest struct {
	Name        string         `json:"name"`
	Interval    model.Duration `json:"interval"`
	InputSeries []struct {
		Series string `json:"series"`
		Values string `json:"values"`
	} `json:"input_series"`
	Alerts []alertTest `json:"alert_rule_test"`
}

type alertTest struct {
	At       model.Duration `json:"eval_time"`
	Name     string         `json:"alertname"`
	Expected []firing       `json:"exp_alerts"`
}

// firing is an alert that has been sent.
type firing struct {
	Labels      map[string]string `json:"exp_labels"`
	Annotations map[string]string `json:"exp_annotations"`
}

func readRuleTests(t *testing.T) (ruleTests, []rulefmt.Rule) {
	t.Helper()
	raw, err := os.ReadFile("testdata/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var tests ruleTests
	if err := yaml.UnmarshalStrict(raw, &tests); err != nil {
		t.Fatal(err)
	}
	var all []rulefmt.Rule
	for _, file := range tests.RuleFiles {
		groups, errs := rulefmt.ParseFile(filepath.Join("testdata", file), false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
		for _, err := range errs {
			t.Fatal(err)
		}
		for _, group := range groups.Groups {
			all = append(all, group.Rules...)
		}
	}
	return tests, all
}

// scrapedAs are ways to scrape a target whose series have a label namespace: its own wins, or that of the target does.
var scrapedAs = map[string]func(series string) string{
	"honored": func(series string) string { return series },
	"renamed": func(series string) string {
		return strings.Replace(series, `namespace="`, `namespace="flagger-system",exported_namespace="`, 1)
	},
}

func TestAlertRules(t *testing.T) {
	tests, all := readRuleTests(t)
	for _, test := range tests.Tests {
		for how, scraped := range scrapedAs {
			t.Run(test.Name+"/"+how, func(t *testing.T) {
				for _, a := range test.Alerts {
					got := test.play(t, ruleOf(t, all, a.Name), time.Duration(tests.EvaluationInterval), time.Duration(a.At), scraped)
					if diff := cmp.Diff(a.Expected, got); diff != "" {
						t.Errorf("%s after %s (-want +got):\n%s", a.Name, a.At, diff)
					}
				}
			})
		}
	}
}

func ruleOf(t *testing.T, all []rulefmt.Rule, name string) rulefmt.Rule {
	t.Helper()
	i := slices.IndexFunc(all, func(r rulefmt.Rule) bool { return r.Alert == name })
	if i < 0 {
		t.Fatalf("there is no alert %s", name)
	}
	return all[i]
}

// play returns what of a rule fires at a time, as Prometheus evaluates it from the beginning.
func (test ruleTest) play(t *testing.T, rule rulefmt.Rule, every, until time.Duration, scraped func(string) string) []firing {
	t.Helper()
	var load strings.Builder
	fmt.Fprintf(&load, "load %s\n", test.Interval)
	for _, s := range test.InputSeries {
		fmt.Fprintf(&load, "  %s %s\n", scraped(s.Series), s.Values)
	}
	storage := promqltest.LoadedStorage(t, load.String())
	defer storage.Close()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(rule.Expr)
	if err != nil {
		t.Fatal(err)
	}
	ask := rules.EngineQueryFunc(promqltest.NewTestEngine(t, false, 5*time.Minute, 1e6), storage)
	alerting := rules.NewAlertingRule(rule.Alert, expr, time.Duration(rule.For), time.Duration(rule.KeepFiringFor),
		labels.FromMap(rule.Labels), labels.FromMap(rule.Annotations), labels.EmptyLabels(), "", true, slog.New(slog.DiscardHandler))
	for at := time.Duration(0); at <= until; at += every {
		if _, err := alerting.Eval(t.Context(), 0, time.UnixMilli(0).Add(at), ask, nil, 0); err != nil {
			t.Fatalf("%s: %v", rule.Alert, err)
		}
	}
	var fires []firing
	for _, alert := range alerting.ActiveAlerts() {
		if alert.State == rules.StateFiring {
			fires = append(fires, firing{labels.NewBuilder(alert.Labels).Del(model.AlertNameLabel).Labels().Map(), alert.Annotations.Map()})
		}
	}
	return fires
}

// A rule that nothing was seen to set off may never fire, and one that nothing was seen to leave alone may always do.
func TestEveryAlertRuleIsTestedBothWays(t *testing.T) {
	tests, all := readRuleTests(t)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, a := range test.Alerts {
			if len(a.Expected) > 0 {
				fires[a.Name] = true
			} else {
				silent[a.Name] = true
			}
		}
	}
	for _, rule := range all {
		if !fires[rule.Alert] || !silent[rule.Alert] {
			t.Errorf("%s: there are tests with it %t, without it %t", rule.Alert, fires[rule.Alert], silent[rule.Alert])
		}
	}
}

// Whoever is woken up needs words for what is wrong, and a page for what to do.
func TestAlertRulesLeadToTheirRunbook(t *testing.T) {
	const page = "docs/monitoring.md"
	raw, err := os.ReadFile(filepath.Join("../..", page))
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	for _, heading := range regexp.MustCompile(`(?m)^### (Flagger\w+)$`).FindAllStringSubmatch(string(raw), -1) {
		described[heading[1]] = true
	}
	_, all := readRuleTests(t)
	for _, rule := range all {
		if want := page + "#" + strings.ToLower(rule.Alert); rule.Annotations["runbook_url"] != want || !described[rule.Alert] {
			t.Errorf("%s: the runbook is %q, want %s, described there %t", rule.Alert, rule.Annotations["runbook_url"], want, described[rule.Alert])
		}
		delete(described, rule.Alert)
		for _, name := range []string{"summary", "description"} {
			if rule.Annotations[name] == "" {
				t.Errorf("%s has no %s", rule.Alert, name)
			}
		}
		if !slices.Contains([]string{"critical", "warning", "info"}, rule.Labels["severity"]) {
			t.Errorf("%s: severity %q", rule.Alert, rule.Labels["severity"])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(described)) {
		t.Errorf("%s describes %s, which is no alert", page, name)
	}
}
