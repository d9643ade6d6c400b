// Package sequential tests, while a rollout goes on, whether its canary does worse than its primary. It may be looked at after
// every step: the bound on false alarms is for all looks of a run together.
//
// It is a test by betting (Shafer, "Testing by betting", 2021; Waudby-Smith and Ramdas, "Estimating means of bounded random
// variables by betting", 2024) on two streams of yes and no (Turner, Ly and Grünwald, "Generic E-variables for exact sequential
// k-sample tests", 2024). Who bets against "the canary is good enough" with a capital of 1 and only at fair odds gets rich with a
// small probability: by Ville's inequality (1939) the capital ever reaches 1/α with a probability of α at the most.
//
// One look brings the answers since the look before: n of the canary and m of the primary, each bad (Y = 1) or not (Y = 0). Let
// the shares of bad ones be q and p in truth. The canary is good enough if
//
//	q ≤ slope·p + offset.
//
// Take any pair that is just good enough, x = slope·u + offset, and any stake g ≥ 0, both chosen before the look. With
// h = -slope·g·n/m, the capital is multiplied by
//
//	E = Π (1 + g·(Y - x)) over the canary × Π (1 + h·(Y - u)) over the primary.
//
// The expected value is (1 + g·(q-x))ⁿ·(1 + h·(p-u))ᵐ ≤ exp(n·g·(q-x) + m·h·(p-u)) = exp(n·g·(q - slope·p - offset)), because
// slope·u = x - offset: at most 1 for every good canary, whatever u is, and also if q and p change from one look to the next, or
// within a look as long as their means are good. So neither the time of day nor a growing share of the traffic makes false alarms.
// What u decides is how much is won from a bad canary: it is the share of bad answers of the primary in the looks before.
package sequential

import (
	"math"
	"slices"
)

const (
	// bets is the number of stakes that the capital is divided among at first; the largest is 2^largestStake, each other half of the next.
	// The best stake is about the excess over the tolerance divided by the variance: 20 bad answers of 100 in place of 1 ask for 20,
	// 31 in place of 30 for a fortieth. One that is off by a factor of √2 wins nine tenths of what the best one does.
	bets         = 13
	largestStake = 6
	// prudence is the most of a capital that one answer may cost.
	prudence = 0.9
	// priorBad in priorTotal answers is what is thought of the primary before the first look.
	priorBad, priorTotal = 0.5, 50
	// smallest keeps shares away from 0 and 1.
	smallest = 1e-6
	// millis is the unit of logarithms: they are kept as whole numbers, so that what is stored is what is reckoned with.
	millis = 1000
)

// Counts are answers of one side.
type Counts struct {
	// Bad is how many of Total failed, or took too long.
	Bad, Total int64
}

// Share is the part of the answers that are bad, 0 if there are none.
func (c Counts) Share() float64 {
	if c.Total == 0 {
		return 0
	}
	return float64(c.Bad) / float64(c.Total)
}

func (c Counts) plus(d Counts) Counts { return Counts{c.Bad + d.Bad, c.Total + d.Total} }

// usable are the counts as far as they can be true.
func (c Counts) usable() Counts {
	c.Total = max(c.Total, 0)
	c.Bad = min(max(c.Bad, 0), c.Total)
	return c
}

// Tolerance says which canaries are good enough: those whose share of bad answers is at most Slope times that of the primary plus
// Offset. Both are 0 or more. Slope 1 and Offset 0 ask for a canary that is no worse at all. With Slope 0 the primary says nothing:
// the share is tested against Offset alone, which is a test of one stream.
type Tolerance struct{ Slope, Offset float64 }

// Evidence is what all looks of a run show against the canary. The zero value is that before the first look.
type Evidence struct {
	// LogWealth is, for each stake, the natural logarithm of its capital in thousandths, rounded down.
	LogWealth []int64
	// Peak is the highest logarithm of the mean capital at any look, in thousandths.
	Peak int64
	// Canary and Primary are all answers so far.
	Canary, Primary Counts
}

// Look adds the answers since the look before. It leaves e as it is. Without answers of the canary nothing can be
// learned, nor without those of the primary if that counts.
func (e Evidence) Look(t Tolerance, canary, primary Counts) Evidence {
	canary, primary = canary.usable(), primary.usable()
	next := Evidence{LogWealth: slices.Clone(e.LogWealth), Peak: e.Peak, Canary: e.Canary.plus(canary), Primary: e.Primary.plus(primary)}
	if len(next.LogWealth) != bets {
		// Of the first look, or of a version with other stakes: those are another game.
		next.LogWealth = make([]int64, bets)
	}
	if canary.Total == 0 || primary.Total == 0 && t.Slope > 0 {
		return next
	}
	u := t.baseline(e.Primary)
	x := t.Slope*u + t.Offset
	for i := range next.LogWealth {
		g, h := t.stakes(math.Ldexp(1, largestStake-i), x, u, canary.Total, primary.Total)
		won := canary.times(g, x) + primary.times(h, u)
		next.LogWealth[i] += int64(math.Floor(won * millis))
	}
	next.Peak = max(next.Peak, mean(next.LogWealth))
	return next
}

// baseline is the share of bad answers that is bet on for the primary, such that what it makes of the canary's is one as well.
func (t Tolerance) baseline(primary Counts) float64 {
	u := (float64(primary.Bad) + priorBad) / (float64(primary.Total) + priorTotal)
	most := 1 - smallest
	if t.Slope > 0 {
		most = min(most, (1-smallest-t.Offset)/t.Slope)
	}
	return max(smallest, min(u, most))
}

// stakes are those on the canary and, negative, on the primary, as far as no answer can cost more than prudence allows.
func (t Tolerance) stakes(g, x, u float64, n, m int64) (canary, primary float64) {
	ratio := t.Slope * float64(n) / float64(max(m, 1))
	g = min(g, prudence/x)
	if ratio > 0 {
		g = min(g, prudence/(ratio*(1-u)))
	}
	return g, -ratio * g
}

// times is the logarithm of what a stake makes of a capital of 1.
func (c Counts) times(stake, x float64) float64 {
	return float64(c.Bad)*math.Log1p(stake*(1-x)) + float64(c.Total-c.Bad)*math.Log1p(-stake*x)
}

// mean is the logarithm of the mean of capitals, all in thousandths and rounded down.
func mean(logs []int64) int64 {
	most := slices.Max(logs)
	sum := 0.0
	for _, l := range logs {
		sum += math.Exp(float64(l-most) / millis)
	}
	return most + int64(math.Floor(millis*math.Log(sum/float64(len(logs)))))
}

// P is the chance, at the most, that the evidence was ever as strong as it was if the canary is good enough.
func (e Evidence) P() float64 { return min(1, math.Exp(-float64(e.Peak)/millis)) }

// Rejects is whether the canary is shown not to be good enough, with the probability alpha, at the most, of saying so of one that
// is, at any look of the run. It stays so for the rest of the run.
func (e Evidence) Rejects(alpha float64) bool { return e.Peak > 0 && e.P() <= alpha }
