package sequential

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// choose is the probability of k bad answers of n.
func choose(n, k int64, p float64) float64 {
	lg := func(x int64) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
	if p == 0 || p == 1 {
		if (p == 0) == (k == 0) && (p == 0 || k == n) {
			return 1
		}
		return 0
	}
	return math.Exp(lg(n) - lg(k) - lg(n-k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
}

// expected is the mean of the capital after one more look, over all outcomes: no simulation.
func expected(e Evidence, t Tolerance, n, m int64, q, p float64) float64 {
	before := math.Exp(float64(mean(e.Look(t, Counts{}, Counts{}).LogWealth)) / millis)
	total := 0.0
	for i := range n + 1 {
		for j := range m + 1 {
			after := e.Look(t, Counts{i, n}, Counts{j, m})
			total += choose(n, i, q) * choose(m, j, p) * math.Exp(float64(mean(after.LogWealth))/millis)
		}
	}
	// Rounding down takes up to two thousandths.
	return total / before
}

// A look makes nobody richer on average whose canary is good enough, however the answers are divided between the sides.
func TestFairOdds(t *testing.T) {
	for _, tolerance := range []Tolerance{{1, 0}, {1, 0.01}, {1.5, 0}, {0.99, 0.01}, {0, 0.05}, {3, 0.2}} {
		for _, p := range []float64{0, 0.001, 0.02, 0.25} {
			q := min(1, tolerance.Slope*p+tolerance.Offset)
			for _, sizes := range [][2]int64{{1, 1}, {1, 30}, {30, 1}, {20, 20}} {
				for _, before := range []Evidence{{}, Evidence{}.Look(tolerance, Counts{9, 40}, Counts{1, 60})} {
					if got := expected(before, tolerance, sizes[0], sizes[1], q, p); got > 1.003 {
						t.Errorf("%+v, primary %v, canary %v, %v answers: the capital grows to %v", tolerance, p, q, sizes, got)
					}
				}
			}
		}
	}
}

// With slope 0 one stream is tested, and a primary says nothing, whether it is there or not.
func TestOneStream(t *testing.T) {
	for _, bound := range []float64{0.02, 0.15, 0.6, 0.98} {
		alone := Tolerance{Offset: bound}
		for _, before := range []Evidence{{}, Evidence{}.Look(alone, Counts{30, 40}, Counts{})} {
			if got := expected(before, alone, 30, 0, bound, 0); got > 1.003 {
				t.Errorf("at most %v: the capital grows to %v", bound, got)
			}
			with, without := before.Look(alone, Counts{9, 40}, Counts{1, 60}), before.Look(alone, Counts{9, 40}, Counts{})
			if fmt.Sprint(with.LogWealth) != fmt.Sprint(without.LogWealth) {
				t.Errorf("at most %v: the primary makes %v of %v", bound, with.LogWealth, without.LogWealth)
			}
		}
	}
	if e := (Evidence{}).Look(Tolerance{Offset: 0.15}, Counts{40, 100}, Counts{}); e.P() > 1e-6 {
		t.Errorf("40 of 100 where 15 are tolerated: p %v", e.P())
	}
}

// binomial draws how many of n answers are bad.
func binomial(r *rand.Rand, n int64, p float64) int64 {
	if p <= 0 {
		return 0
	}
	k, at := int64(0), int64(0)
	for {
		// The next bad answer is so many answers away.
		at += 1 + int64(math.Log(1-r.Float64())/math.Log1p(-p))
		if at > n {
			return k
		}
		k++
	}
}

const (
	alpha = 0.05
	steps = 20
)

// share is the weight of the canary at a step, from 5 percent to half of the traffic.
func share(step int) float64 { return min(0.05*float64(step+1), 0.5) }

func sizes(requests int64, step int) (canary, primary int64) {
	canary = int64(math.Round(share(step) * float64(requests)))
	return canary, requests - canary
}

// falseAlarms is how many of so many rollouts of a canary that is just good enough are taken back.
func falseAlarms(r *rand.Rand, runs int, requests int64, tolerance Tolerance, p func(step int) float64) float64 {
	alarms := 0
	for range runs {
		var e Evidence
		for step := range steps {
			n, m := sizes(requests, step)
			q := tolerance.Slope*p(step) + tolerance.Offset
			e = e.Look(tolerance, Counts{binomial(r, n, q), n}, Counts{binomial(r, m, p(step)), m})
		}
		if e.Rejects(alpha) {
			alarms++
		}
	}
	return float64(alarms) / float64(runs)
}

func TestFalseAlarms(t *testing.T) {
	const runs = 300
	r := rand.New(rand.NewPCG(1, 1))
	allowed := alpha + 3*math.Sqrt(alpha*(1-alpha)/runs)
	for _, tolerance := range []Tolerance{{1, 0}, {1, 0.005}, {1.5, 0}, {0.99, 0.01}} {
		for name, p := range map[string]func(int) float64{
			"one of a thousand fails": func(int) float64 { return 0.001 },
			"one of fifty fails":      func(int) float64 { return 0.02 },
			"a third fails":           func(int) float64 { return 0.33 },
			// A database gets worse while the canary gets more traffic: counts of the whole run would blame the canary.
			"worse from step to step": func(step int) float64 { return 0.002 * float64(step+1) },
		} {
			for _, requests := range []int64{10, 100, 1000, 10000} {
				if got := falseAlarms(r, runs, requests, tolerance, p); got > allowed {
					t.Errorf("%+v, %s, %d requests a step: %.1f %% false alarms, want at most %.1f %%", tolerance, name, requests, 100*got, 100*allowed)
				}
			}
		}
	}
}

// What was shown once stays shown, and is kept as whole numbers.
func TestEvidenceStays(t *testing.T) {
	var e Evidence
	for range 3 {
		e = e.Look(Tolerance{Slope: 1}, Counts{20, 100}, Counts{1, 900})
	}
	if !e.Rejects(alpha) || e.P() > 1e-6 {
		t.Fatalf("20 of 100 bad answers in place of 1 of 900, three times: p %v", e.P())
	}
	for range 100 {
		e = e.Look(Tolerance{Slope: 1}, Counts{0, 100}, Counts{1, 900})
	}
	if !e.Rejects(alpha) || e.Canary != (Counts{60, 10300}) || e.Primary != (Counts{103, 92700}) {
		t.Errorf("later looks undid it: %+v", e)
	}
}

func TestNothingToLearn(t *testing.T) {
	one := Evidence{}.Look(Tolerance{Slope: 1}, Counts{1, 10}, Counts{0, 10})
	for name, counts := range map[string][2]Counts{
		"no answers of the canary":  {{0, 0}, {5, 50}},
		"no answers of the primary": {{5, 50}, {0, 0}},
		"counts that can't be":      {{5, -1}, {7, 3}},
	} {
		next := one.Look(Tolerance{Slope: 1}, counts[0], counts[1])
		if fmt.Sprint(next.LogWealth) != fmt.Sprint(one.LogWealth) || next.Peak != one.Peak {
			t.Errorf("%s: %v after %v", name, next, one)
		}
	}
	if (Evidence{}).Rejects(1) {
		t.Error("rejected before the first look")
	}
}
