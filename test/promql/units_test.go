package promql

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"flagger.app/flagger/test/dashboards"
)

// Units of the answer to a query.
const (
	number       = "a number"
	perSecond    = "a number per second"
	ratio        = "a ratio"
	seconds      = "seconds"
	milliseconds = "milliseconds"
	bytes        = "bytes"
	bytesPerS    = "bytes per second"
	percent      = "percent"
)

// shownAs are the units of Grafana that fit.
var shownAs = map[string][]string{
	number: {"none", "short"}, perSecond: {"ops", "reqps"}, ratio: {"percentunit", "none"}, seconds: {"s"}, bytes: {"bytes"},
	bytesPerS: {"Bps"}, percent: {"percent"},
}

// A panel whose unit is not that of its query is wrong by a factor of a thousand, say.
func TestUnitsOfPanelsAreThoseOfTheirQueries(t *testing.T) {
	for name, d := range readDashboards(t) {
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				query := dashboards.Fill(target.Expr, nil)
				expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
				if err != nil {
					t.Errorf("dashboard %s: %s: %s: %v", name, panel.Title, query, err)
					continue
				}
				unit := unitOf(expr)
				if panel.Type != "table" && !slices.Contains(shownAs[unit], panel.FieldConfig.Defaults.Unit) {
					t.Errorf("dashboard %s: %s shows %s as %q: %s", name, panel.Title, unit, panel.FieldConfig.Defaults.Unit, query)
				}
			}
		}
	}
}

// unitOf derives the unit of an expression from the names of its metrics.
func unitOf(expr parser.Expr) string {
	switch e := expr.(type) {
	case *parser.VectorSelector:
		return unitOfMetric(e.Name)
	case *parser.MatrixSelector:
		return unitOf(e.VectorSelector)
	case *parser.ParenExpr:
		return unitOf(e.Expr)
	case *parser.UnaryExpr:
		return unitOf(e.Expr)
	case *parser.AggregateExpr:
		if e.Op == parser.COUNT {
			return number
		}
		return unitOf(e.Expr)
	case *parser.Call:
		return unitOfCall(e)
	case *parser.BinaryExpr:
		return unitOfBinary(e)
	}
	return ""
}

func unitOfMetric(name string) string {
	switch {
	case strings.Contains(name, "_milliseconds"), name == "envoy_cluster_upstream_rq_time_bucket", name == "apisix_http_latency_bucket":
		return milliseconds
	case name == "flagger_canary_weight", name == "flagger_canary_measured_weight":
		return percent
	case strings.HasSuffix(name, "_count"):
		return number
	case strings.Contains(name, "_bytes"):
		return bytes
	case regexp.MustCompile(`_seconds(_total|_sum|_bucket)?$`).MatchString(name):
		return seconds
	}
	return number
}

func unitOfCall(call *parser.Call) string {
	switch call.Func.Name {
	case "rate":
		if selected := call.Args[0].(*parser.MatrixSelector).VectorSelector.(*parser.VectorSelector); counts(selected) {
			return perSecond
		}
		return map[string]string{number: perSecond, bytes: bytesPerS, seconds: ratio}[unitOf(call.Args[0])]
	case "histogram_quantile":
		unit := ""
		parser.Inspect(call.Args[1], func(node parser.Node, _ []parser.Node) error {
			if s, ok := node.(*parser.VectorSelector); ok && unit == "" {
				unit = unitOfMetric(s.Name)
			}
			return nil
		})
		return unit
	case "label_replace":
		return unitOf(call.Args[0])
	}
	return ""
}

// counts is whether a bucket stands for the number of all observations.
func counts(s *parser.VectorSelector) bool {
	return slices.ContainsFunc(s.LabelMatchers, func(m *labels.Matcher) bool { return m.Name == "le" && m.Value == "+Inf" })
}

func unitOfBinary(e *parser.BinaryExpr) string {
	left, right := unitOf(e.LHS), unitOf(e.RHS)
	divisor, _ := e.RHS.(*parser.NumberLiteral)
	switch {
	case e.Op == parser.DIV && divisor != nil && divisor.Val == 1000 && left == milliseconds:
		return seconds
	case e.Op == parser.DIV && left == ratio && right == perSecond:
		return seconds
	case e.Op == parser.DIV && left == right:
		return ratio
	case e.Op == parser.SUB:
		return right
	}
	return left
}
