package metrics

import (
	"bufio"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// series are what a gateway really exported: the counters, which began at 0, after a rollout of podinfo behind the Ingress edge
// in each of the namespaces.
type series []sample

type sample struct {
	name   string
	labels labels
	value  float64
}

func recorded(t *testing.T, gateway string) series {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", "series", gateway+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var all series
	label := regexp.MustCompile(`(\w+)="([^"]*)"`)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), "{")
		text, value, ok := strings.Cut(rest, "} ")
		number, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil {
			t.Fatalf("%s: %q is no sample", file.Name(), lines.Text())
		}
		s := sample{name, labels{}, number}
		for _, m := range label.FindAllStringSubmatch(text, -1) {
			s.labels[m[1]] = m[2]
		}
		all = append(all, s)
	}
	return all
}

// ratio is the value of a query that divides the rate of some series by that of others. Over one window rates are to each other
// as what the counters grew by.
func (all series) ratio(t *testing.T, query string) float64 {
	t.Helper()
	parts := regexp.MustCompile(
		`^\(?sum\(rate\((\w+)(\{[^}]*\})\[1m\]\)\)(?: or sum\(rate\(\w+\{[^}]*\}\[1m\]\)\) \* 0\))? / sum\(rate\((\w+)(\{[^}]*\})\[1m\]\)\) \* (\d+)$`).FindStringSubmatch(query)
	if parts == nil {
		t.Fatalf("not a ratio of two rates: %s", query)
	}
	sum := func(name, selector string) (sum float64) {
		for _, s := range all {
			if s.name == name && selects(t, selector, s.labels) {
				sum += s.value
			}
		}
		return sum
	}
	factor, err := strconv.ParseFloat(parts[5], 64)
	if err != nil {
		t.Fatal(err)
	}
	return sum(parts[1], parts[2]) / sum(parts[3], parts[4]) * factor
}

// Errors of the primary alone fail no canary, those of the canary always do, and so with what is slow: in the series that Skipper
// exported of such rollouts.
func TestSeriesOfSkipper(t *testing.T) {
	all, o := recorded(t, "skipper"), observers()["skipper"]()
	for namespace, want := range map[string]struct {
		success float64
		slow    bool
	}{
		"bad-canary":   {50, false},
		"slow-canary":  {100, true},
		"bad-primary":  {100, false},
		"slow-primary": {100, false},
	} {
		c := canary(func(c *v1beta1.Canary) {
			c.Name, c.Namespace, c.Spec.IngressRef = "podinfo", namespace, &v1beta1.LocalObjectReference{Name: "edge"}
		})
		value := func(text string) float64 {
			query, err := render(text, builtInFunctions(NewVars(c, v1beta1.CanaryMetric{Interval: "1m"})))
			if err != nil {
				t.Fatal(err)
			}
			return all.ratio(t, query)
		}
		if got := value(o.successRate()); math.Abs(got-want.success) > 0.01 {
			t.Errorf("%s: success rate %.2f, want %.0f", namespace, got, want.success)
		}
		if got := value(o.latency); math.IsNaN(got) || got > 2000 != want.slow {
			t.Errorf("%s: duration of %.0f ms, slow %v", namespace, got, want.slow)
		}
	}
}
