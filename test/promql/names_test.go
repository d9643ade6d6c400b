package promql

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"flagger.app/flagger/pkg/telemetry"
)

// target are the labels that a scrape gives to all series of a target.
var target = []string{model.InstanceLabel, model.JobLabel, "namespace", "exported_namespace"}

// served are the metrics that the operator registers, with their labels.
func served(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		telemetry.New("", "").Registry().Describe(descriptions)
		close(descriptions)
	}()
	shape := regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: {(.*)}}$`)
	for d := range descriptions {
		found := shape.FindStringSubmatch(d.String())
		if found == nil {
			t.Fatalf("a description of another form: %s", d)
		}
		names := strings.FieldsFunc(found[2], func(r rune) bool { return r == ',' || r == ' ' })
		for _, suffix := range []string{"", "_bucket", "_count", "_sum"} {
			all[found[1]+suffix] = append(names, labels.BucketLabel)
		}
	}
	return all
}

// unknownNames are the metrics, and the labels that select series of them, which the operator does not have.
func unknownNames(t *testing.T, query string, known map[string][]string) (unknown []string) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		names, ok := known[selector.Name]
		if !ok {
			unknown = append(unknown, selector.Name)
			return nil
		}
		for _, m := range selector.LabelMatchers {
			if m.Name != model.MetricNameLabel && !slices.Contains(names, m.Name) && !slices.Contains(target, m.Name) {
				unknown = append(unknown, selector.Name+"{"+m.Name+"}")
			}
		}
		return nil
	})
	return unknown
}

func TestAlertRulesNameMetricsThatExist(t *testing.T) {
	_, all := readRuleTests(t)
	known := served(t)
	for _, rule := range all {
		if unknown := unknownNames(t, rule.Expr, known); len(unknown) > 0 {
			t.Errorf("%s asks for %v, which the operator does not serve", rule.Alert, unknown)
		}
	}
}
