package e2e

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// counted is how many requests a share has to rest on before it is compared with what was sent.
const counted = 50

// byShare holds a step whose share is more than fifteen points off, for as long as the test has patience.
func byShare(c *v1beta1.Canary) {
	least := 60.0
	c.Spec.Analysis.Interval = "5s"
	c.Spec.Analysis.Metrics = []v1beta1.CanaryMetric{{
		Name: "request-success-rate", Interval: "10s", ThresholdRange: &v1beta1.CanaryThresholdRange{Min: &least},
		MetricPolicy: v1beta1.MetricPolicy{NoData: v1beta1.NoDataHold, NoDataLimit: patience.String()},
	}}
	c.Spec.Analysis.Split = &v1beta1.SplitPolicy{Mode: v1beta1.SplitEnforce, Tolerance: 15, Limit: patience.String()}
}

// measured is the split of the last check, and the number of that.
func measured(c *v1beta1.Canary) (v1beta1.SplitStatus, int64) {
	if r := c.Status.Rollout; r != nil && r.Checks != nil && r.Checks.Run == r.Run && r.Checks.Split != nil {
		return *r.Checks.Split, r.Checks.Check
	}
	return v1beta1.SplitStatus{}, 0
}

func isRight(c *v1beta1.Canary) bool {
	s, _ := measured(c)
	return s.Outcome == v1beta1.OutcomePass && s.Weight == c.Status.CanaryWeight && s.CanaryRequests+s.PrimaryRequests >= counted
}

func isHeld(c *v1beta1.Canary) bool {
	s, _ := measured(c)
	return s.Outcome == v1beta1.OutcomeHold && slices.ContainsFunc(c.Status.Conditions, func(h v1beta1.CanaryCondition) bool {
		return h.Type == v1beta1.HealthyType && h.Reason == "UnexpectedSplit"
	})
}

// held waits for a number of checks more that hold the run at a weight.
func (l *loaded) held(weight int32, checks int) {
	l.Helper()
	last := int64(0)
	for range checks {
		c := l.until("a check that holds", func(c *v1beta1.Canary) bool {
			_, number := measured(c)
			return isHeld(c) && number != last
		})
		_, last = measured(c)
		if c.Status.CanaryWeight != weight || c.Status.FailedChecks > 0 {
			l.Errorf("weight %d and %d failed checks while the share is off", c.Status.CanaryWeight, c.Status.FailedChecks)
		}
	}
}

// foreignRequests has somebody else lead as many requests to the canary again as all others are. The step is held meanwhile, and
// goes on by itself when they stop.
func foreignRequests(l *loaded) {
	l.onboard(l.inSteps(20, 40), byShare)
	l.roll(v1beta1.CanaryPhaseSucceeded, func() { l.ship(v2) }, func() {
		l.upTo(20)
		right, _ := measured(l.until("the share of the step", isRight))
		if share, err := strconv.ParseFloat(right.Share, 64); err != nil || math.Abs(share-20) > 15 {
			l.Errorf("the canary got %q of what was sent", right.Share)
		}

		l.put(strings.NewReplacer("HOST", "beside."+l.host).Replace(l.plane.beside))
		foreign := l.loadTo(l.plane.address, "beside."+l.host)
		// Before that, it may go on by a share that is still right.
		l.until("a check that holds", isHeld)
		l.upTo(40)
		l.held(20, 3)
		off, _ := measured(l.read())
		l.Logf("the canary got %s %% at a weight of 20, and %s %% with what others led to it", right.Share, off.Share)
		foreign.stop()
		foreign.wait.Wait()
		l.weighs(40)
		l.until("the share of the next step", isRight)
		l.set(v1beta1.ConfirmPromotionHook, true)
	})
	l.rests(v2)
	if told := l.events(); count(told, "W Halt podinfo."+l.ns+" advancement the share of the canary is ") == 0 {
		l.Errorf("nobody was told:\n%s", strings.Join(told, "\n"))
	}
}
