package analysis

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"flagger.app/flagger/pkg/analysis/sequential"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// What is tested is whether the share of the canary is beyond the bounds that a tolerance makes around its weight: by two tests of one
// stream of requests, one for each bound, as they are in the package sequential. Proxies round weights and clients keep
// connections, so that with enough requests every share would be shown not to be exactly what was asked for; the tolerance
// is the least effect that matters.
//
// A test that has seen many shares that are right would take as many wrong ones to change its mind. So it begins anew after each check
// whose share is within the bounds, with a part of the false-alarm rate α: the test that begins as the n-th has α/(n·(n+1)), half of it for each
// bound. The sum of those is α, however many there are, so α bounds the false alarms of a run.

const (
	// leastTolerance and mostTolerance bound the default tolerance, in percentage points. Half of the share of the smaller side is
	// what a canary of 10 % may be off by; a canary of 1 % gets no request of so few that half of it could be seen.
	leastTolerance, mostTolerance = 2, 10
	// maxSplitReason is the most, in bytes, of what the status says about a share.
	maxSplitReason = 1024
)

// Split is what a step asks of the division of requests.
type Split struct {
	v1beta1.SplitPolicy
	// Weight is the percentage of requests that the routes lead to the canary.
	Weight int32
	// Settling is how long proxies may go by the weight before at the begin of a step.
	Settling time.Duration
}

// tolerance is in percentage points.
func (s Split) tolerance() float64 {
	if s.Tolerance > 0 {
		return float64(s.Tolerance)
	}
	return min(max(float64(min(s.Weight, 100-s.Weight))/2, leastTolerance), mostTolerance)
}

// bounds are those of the share, from 0 to 1, in an interval that may have begun with the weight before.
func (s Split) bounds(before int32, interval time.Duration) (lower, upper float64) {
	asked, old := float64(s.Weight), 0.0
	if interval > 0 {
		old = min(1, s.Settling.Seconds()/interval.Seconds())
	}
	mixed := asked + old*(float64(before)-asked)
	lower, upper = min(asked, mixed)-s.tolerance(), max(asked, mixed)+s.tolerance()
	return max(0, lower/100), min(1, upper/100)
}

// divided is what is made of a split.
type divided struct {
	record *v1beta1.SplitStatus
	// before is what the check before made of it.
	before string
}

// off is whether an outcome is that of a share that is not the one asked for.
func off(outcome string) bool {
	return outcome == v1beta1.OutcomeHold || outcome == v1beta1.OutcomeFail
}

// splitBefore is what the check before left of this run.
func (c Check) splitBefore() v1beta1.SplitStatus {
	if c.Before == nil || c.Before.Run != c.Run || c.Before.Split == nil {
		return v1beta1.SplitStatus{}
	}
	return *c.Before.Split.DeepCopy()
}

// judgeSplit judges how requests were divided.
func (c Check) judgeSplit(r Reading) divided {
	before := c.splitBefore()
	d := divided{record: before.DeepCopy(), before: before.Outcome}
	if before.Outcome != "" && c.countedLately() {
		return d
	}
	s, asked := d.record, c.Split
	lower, upper := asked.bounds(before.Weight, c.Interval)
	s.Weight, s.Observed, s.Bound = asked.Weight, asked.Mode == v1beta1.SplitObserve, boundsText(lower, upper)
	s.Share, s.CanaryRequests, s.PrimaryRequests = "", r.Counts.Canary.Total, r.Counts.Primary.Total
	total := s.CanaryRequests + s.PrimaryRequests
	switch {
	case r.State != Value && !off(before.Outcome):
		s.Outcome, s.Reason = v1beta1.OutcomeError, c.halt("the share of the canary is not known: %s", r.Cause)
	case r.State != Value || total == 0 && off(before.Outcome):
		// What can't be seen has not changed.
	case total == 0:
		s.Outcome, s.Reason = v1beta1.OutcomePass, ""
	default:
		c.testSplit(s, lower, upper, off(before.Outcome))
	}
	c.limitSplit(s)
	s.Reason = cut(s.Reason, maxSplitReason)
	return d
}

// testSplit tests a share that is known. One that was off is so until it is seen to be right.
func (c Check) testSplit(s *v1beta1.SplitStatus, lower, upper float64, wasOff bool) {
	total := s.CanaryRequests + s.PrimaryRequests
	share := float64(s.CanaryRequests) / float64(total)
	s.Share, s.Outcome, s.Reason = shareText(share), v1beta1.OutcomePass, ""
	if share >= lower && share <= upper {
		s.Begun, s.Above, s.Below = s.Begun+1, nil, nil
		return
	}
	nth := float64(s.Begun) + 1
	alpha := c.Split.FalseAlarmRate / (nth * (nth + 1)) / 2
	above := sequential.Evidence{LogWealth: s.Above}
	below := sequential.Evidence{LogWealth: s.Below}
	if upper < 1 {
		above = above.Look(sequential.Tolerance{Offset: upper}, sequential.Counts{Bad: s.CanaryRequests, Total: total}, sequential.Counts{})
	}
	if lower > 0 {
		below = below.Look(sequential.Tolerance{Offset: 1 - lower}, sequential.Counts{Bad: s.PrimaryRequests, Total: total}, sequential.Counts{})
	}
	s.Above, s.Below = above.LogWealth, below.LogWealth
	if !wasOff && !above.Rejects(alpha) && !below.Rejects(alpha) {
		return
	}
	s.Outcome = v1beta1.OutcomeHold
	s.Reason = c.halt("the share of the canary is %s%%, of %d requests, and was to be %d%% (%s): see whether another route or a client leads requests to one "+
		"side, and whether proxies have the weights, or set analysis.split", s.Share, total, s.Weight, s.Bound)
}

// limitSplit ends a wait.
func (c Check) limitSplit(s *v1beta1.SplitStatus) {
	if s.Outcome == v1beta1.OutcomePass {
		s.Since = nil
		return
	}
	if s.Since == nil || s.Since.After(c.Now) {
		s.Since = micro(c.Now)
	}
	if limit := c.Split.GetLimit(c.Limit); !s.Observed && s.Outcome != v1beta1.OutcomeFail && c.Now.Sub(s.Since.Time) >= limit {
		s.Outcome, s.Reason = v1beta1.OutcomeFail, s.Reason+fmt.Sprintf(" (for %s)", limit)
	}
}

// decide lets a split decide, or tell of itself, after all metrics have.
func (d divided) decide(v *Verdict, grave int) {
	s := d.record
	v.Record.Split = s
	fails := s.Outcome == v1beta1.OutcomeFail
	switch {
	case s.Observed && off(s.Outcome) && !off(d.before):
		v.Warned = append(v.Warned, "Observed split would say: "+s.Reason)
	case s.Observed && s.Outcome == v1beta1.OutcomePass && off(d.before):
		v.Observed = append(v.Observed, fmt.Sprintf("Observed split passes: the share of the canary is %s%%, and was to be %d%%", s.Share, s.Weight))
	case s.Observed || s.Outcome == v1beta1.OutcomePass:
	case fails && grave < 2:
		v.Outcome, v.Message, v.Metric, v.Decisive = Fail, s.Reason, "", nil
	case !fails && grave < 1:
		v.Outcome, v.Message, v.Divided = Hold, s.Reason, true
	}
}

// apart takes the reading of the split out of the others.
func apart(readings []Reading) (others []Reading, split *Reading) {
	for i := range readings {
		if readings[i].Source == Shares {
			split = &readings[i]
			continue
		}
		others = append(others, readings[i])
	}
	return others, split
}

func shareText(share float64) string { return number(math.Round(1000*share) / 10) }

func boundsText(lower, upper float64) string {
	low, high := math.Round(1000*lower)/10, math.Round(1000*upper)/10
	return cmp.Or(rangeText(&low, &high), "any")
}
