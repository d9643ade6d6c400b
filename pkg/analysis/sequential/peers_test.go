package sequential

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/comparison.md anew")

// A judge looks at a rollout step by step and says when it takes the canary back.
type judge func(step int, canary, primary []Counts) bool

// points is the number of values of a time series that a step has: one every 20 seconds of a minute.
const points = 3

func total(parts []Counts) Counts {
	var sum Counts
	for _, c := range parts {
		sum = sum.plus(c)
	}
	return sum
}

func bySequentialTest(t Tolerance) judge {
	var e Evidence
	return func(_ int, canary, primary []Counts) bool {
		e = e.Look(t, total(canary), total(primary))
		return e.Rejects(alpha)
	}
}

// byThreshold fails a check with more than one bad answer of a hundred, and takes the canary back at so many failed checks. A step
// without answers is a failed check.
func byThreshold(checks int) judge {
	failed := 0
	return func(_ int, canary, _ []Counts) bool {
		if c := total(canary); c.Total == 0 || c.Share() > 0.01 {
			failed++
		}
		return failed >= checks
	}
}

// byMannWhitney is the default judge of Kayenta as documented: the values of both time series from the start of the run on, compared
// by the test of Mann and Whitney with a confidence of 98 percent. The metric is "High" if the interval of the shift lies above a
// quarter of its estimate. There it runs each time anew; nothing accounts for how often.
func byMannWhitney() judge {
	var canary, primary []float64
	return func(_ int, c, p []Counts) bool {
		for i := range c {
			if c[i].Total > 0 && p[i].Total > 0 {
				canary, primary = append(canary, c[i].Share()), append(primary, p[i].Share())
			}
		}
		return shiftedUp(canary, primary)
	}
}

func shiftedUp(a, b []float64) bool {
	m, n := float64(len(a)), float64(len(b))
	var shifts []float64
	for _, x := range a {
		for _, y := range b {
			shifts = append(shifts, x-y)
		}
	}
	const z = 2.326
	lower := int(m*n/2 - z*math.Sqrt(m*n*(m+n+1)/12))
	if lower < 1 {
		return false
	}
	slices.Sort(shifts)
	return shifts[lower-1] > 0.25*shifts[len(shifts)/2] && shifts[lower-1] > 0
}

// result is how many of the rollouts a judge took back, and at which step, counted from 1, half of those were.
type result struct{ share, step float64 }

func (r result) String() string {
	if r.share == 0 {
		return "none"
	}
	return fmt.Sprintf("%.0f %%, step %.0f", 100*r.share, r.step)
}

// names are the judges in the order of the columns.
func judges() (names []string, make []func() judge) {
	return []string{"sequential test, tolerance 0", "sequential test, tolerance 0.5", "threshold 99 %, 1 failed check", "threshold 99 %, 5 failed checks", "Kayenta's judge"},
		[]func() judge{
			func() judge { return bySequentialTest(Tolerance{Slope: 1}) },
			func() judge { return bySequentialTest(Tolerance{Slope: 1, Offset: 0.005}) },
			func() judge { return byThreshold(1) },
			func() judge { return byThreshold(5) },
			byMannWhitney,
		}
}

// compare shows the same rollouts to all judges. The primary fails one of 200 requests, the canary more by so many points.
func compare(r *rand.Rand, runs int, requests int64, worse float64) []result {
	_, kinds := judges()
	steps := make([][]float64, len(kinds))
	for range runs {
		panel := make([]judge, len(kinds))
		for i, kind := range kinds {
			panel[i] = kind()
		}
		for step := range 20 {
			var canary, primary []Counts
			n, m := sizes(requests, step)
			for i := range int64(points) {
				// What does not divide goes to the first.
				ni, mi := (n+points-1-i)/points, (m+points-1-i)/points
				canary = append(canary, Counts{binomial(r, ni, 0.005+worse), ni})
				primary = append(primary, Counts{binomial(r, mi, 0.005), mi})
			}
			for i, j := range panel {
				if j != nil && j(step, canary, primary) {
					steps[i] = append(steps[i], float64(step+1))
					panel[i] = nil
				}
			}
		}
	}
	results := make([]result, len(kinds))
	for i, s := range steps {
		if slices.Sort(s); len(s) > 0 {
			results[i] = result{float64(len(s)) / float64(runs), s[len(s)/2]}
		}
	}
	return results
}

// TestPeers keeps the table of docs/comparison.md, and what it has to show.
func TestPeers(t *testing.T) {
	const runs = 100
	r := rand.New(rand.NewPCG(3, 3))
	names, _ := judges()
	var b strings.Builder
	fmt.Fprintf(&b, "| Canary fails more by | Requests a step | %s |\n|%s\n", strings.Join(names, " | "), strings.Repeat(" --- |", len(names)+2))
	for _, worse := range []float64{0, 0.01, 0.05, 0.20} {
		for _, requests := range []int64{10, 100, 1000, 10000} {
			results := compare(r, runs, requests, worse)
			fmt.Fprintf(&b, "| %.0f points | %d |", 100*worse, requests)
			for _, result := range results {
				fmt.Fprintf(&b, " %s |", result)
			}
			b.WriteString("\n")
			strict, lenient := results[0], results[1]
			switch found := min(strict.share, lenient.share); {
			case worse == 0 && max(strict.share, lenient.share) > alpha+3*math.Sqrt(alpha*(1-alpha)/runs):
				t.Errorf("equal sides, %d requests a step: %v and %v taken back", requests, strict, lenient)
			case worse == 0.20 && requests >= 100 && (found < 0.99 || lenient.step > 6):
				t.Errorf("20 points, %d requests a step: %v and %v", requests, strict, lenient)
			case worse == 0.05 && requests >= 1000 && (found < 0.99 || lenient.step > 4):
				t.Errorf("5 points, %d requests a step: %v and %v", requests, strict, lenient)
			}
		}
	}
	t.Log("\n" + b.String())
	pin(t, "../../../docs/comparison.md", b.String())
}

// pin holds the part of a page between its marks against what the test found.
func pin(t *testing.T, path, table string) {
	t.Helper()
	const begin, end = "<!-- table: go test ./pkg/analysis/sequential -run Peers -update -->\n", "<!-- end of table -->"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(page), begin)
	old, tail, ended := strings.Cut(rest, end)
	switch {
	case !found || !ended:
		t.Fatalf("%s has no place for the table", path)
	case *update:
		if err := os.WriteFile(path, []byte(head+begin+table+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	case old != table:
		t.Errorf("%s has another table: run go test ./pkg/analysis/sequential -run Peers -update", path)
	}
}
