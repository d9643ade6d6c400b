package analysis

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// shared is a reading of how many requests each side got.
func shared(canary, primary int64) Reading {
	r := Reading{Source: Shares, State: Value}
	r.Counts.Canary.Total, r.Counts.Primary.Total = canary, primary
	return r
}

// asking is a check at a weight, an interval of a minute after the one that left the record.
func asking(weight int32, mode v1beta1.SplitMode, before *v1beta1.SplitStatus) Check {
	c := check()
	c.Interval, c.Before.CheckedAt, c.Before.Split = time.Minute, micro(noon.Add(-time.Minute)), before
	c.Split = &Split{Weight: weight, Settling: 3 * time.Second, SplitPolicy: v1beta1.SplitPolicy{Mode: mode, FalseAlarmRate: 0.01}}
	return c
}

func stood(weight int32, outcome string) *v1beta1.SplitStatus {
	s := &v1beta1.SplitStatus{Weight: weight, Outcome: outcome}
	if outcome != v1beta1.OutcomePass {
		s.Since, s.Reason = micro(noon.Add(-10*time.Minute)), "as before"
	}
	return s
}

func TestSplit(t *testing.T) {
	down := Reading{Source: Shares, State: Failed, Cause: "connection refused"}
	for name, tc := range map[string]struct {
		weight  int32
		before  *v1beta1.SplitStatus
		reading Reading
		want    Outcome
		bound   string
		says    string
	}{
		"as asked for":                    {10, stood(10, "pass"), shared(100, 900), Pass, ">= 5 and <= 15", ""},
		"rounded by a proxy":              {10, stood(10, "pass"), shared(12000, 88000), Pass, ">= 5 and <= 15", ""},
		"a foreign route":                 {10, stood(10, "pass"), shared(400, 600), Hold, ">= 5 and <= 15", "Halt podinfo.test advancement the share of the canary is 40%, of 1000 requests, and was to be 10% (>= 5 and <= 15)"},
		"everything":                      {10, stood(10, "pass"), shared(1000, 0), Hold, ">= 5 and <= 15", "is 100%"},
		"nothing":                         {20, stood(20, "pass"), shared(0, 1000), Hold, ">= 10 and <= 30", "is 0%, of 1000 requests"},
		"one connection, a few requests":  {50, stood(50, "pass"), shared(4, 0), Pass, ">= 40 and <= 60", ""},
		"few requests by chance":          {10, stood(10, "pass"), shared(4, 16), Pass, ">= 5 and <= 15", ""},
		"a small canary":                  {1, stood(1, "pass"), shared(0, 900), Pass, ">= 0 and <= 3", ""},
		"a small canary with much":        {1, stood(1, "pass"), shared(90, 910), Hold, ">= 0 and <= 3", "is 9%"},
		"all, and the primary has some":   {100, stood(100, "pass"), shared(900, 100), Hold, ">= 98 and <= 100", "is 90%"},
		"proxies hear of a step":          {100, stood(50, "pass"), shared(9700, 300), Pass, ">= 95.5 and <= 100", ""},
		"the step before, still":          {100, stood(50, "pass"), shared(500, 500), Hold, ">= 95.5 and <= 100", "is 50%"},
		"no requests":                     {10, stood(10, "pass"), shared(0, 0), Pass, ">= 5 and <= 15", ""},
		"server down":                     {10, stood(10, "pass"), down, Hold, ">= 5 and <= 15", "the share of the canary is not known: connection refused"},
		"was off, is right":               {10, stood(10, "hold"), shared(100, 900), Pass, ">= 5 and <= 15", ""},
		"was off, server down":            {10, stood(10, "hold"), down, Hold, ">= 5 and <= 15", "as before"},
		"was off, no requests":            {10, stood(10, "hold"), shared(0, 0), Hold, ">= 5 and <= 15", "as before"},
		"was off, too few to show":        {10, stood(10, "hold"), shared(3, 7), Hold, ">= 5 and <= 15", "is 30%"},
		"was unknown, server down":        {10, stood(10, "error"), down, Hold, ">= 5 and <= 15", "not known"},
		"was too long off, is right":      {10, stood(10, "fail"), shared(100, 900), Pass, ">= 5 and <= 15", ""},
		"was off for too long, no answer": {10, stood(10, "fail"), down, Fail, ">= 5 and <= 15", "as before"},
	} {
		t.Run(name, func(t *testing.T) {
			v := Evaluate(asking(tc.weight, v1beta1.SplitEnforce, tc.before), []Reading{tc.reading})
			s := v.Record.Split
			if v.Outcome != tc.want || !strings.Contains(v.Message, tc.says) || s.Bound != tc.bound || v.Divided != (tc.want == Hold) {
				t.Errorf("%s %q, %s, want %s %q, %s", v.Outcome, v.Message, s.Bound, tc.want, tc.says, tc.bound)
			}
			if (s.Since == nil) != (tc.want == Pass) || len(v.Readings) > 0 {
				t.Errorf("since %v, readings %v", s.Since, v.Readings)
			}
		})
	}
}

// A wait has an end, and metrics come before what is held.
func TestSplitAmongOthers(t *testing.T) {
	late, off := stood(10, "hold"), shared(400, 600)
	late.Since = micro(noon.Add(-15 * time.Minute))
	v := Evaluate(asking(10, v1beta1.SplitEnforce, late), []Reading{off})
	if v.Outcome != Fail || !strings.HasSuffix(v.Message, "(for 15m0s)") || v.Record.Split.Outcome != "fail" || v.Divided {
		t.Errorf("after the limit: %s %q", v.Outcome, v.Message)
	}
	own := asking(10, v1beta1.SplitEnforce, stood(10, "hold"))
	own.Split.Limit = "10m"
	if v := Evaluate(own, []Reading{off}); v.Outcome != Fail {
		t.Errorf("after a limit of ten minutes: %s", v.Outcome)
	}
	hold := policy(v1beta1.MetricPolicy{NoData: "hold"})
	for name, tc := range map[string]struct {
		with    []Reading
		before  *v1beta1.SplitStatus
		want    Outcome
		divided bool
	}{
		"a metric that passes":                {[]Reading{with()}, nil, Hold, true},
		"a metric that fails":                 {[]Reading{with(value(9))}, nil, Fail, false},
		"a metric that waits":                 {[]Reading{with(state(NoData), hold)}, nil, Hold, false},
		"a metric that waits, off too long":   {[]Reading{with(state(NoData), hold)}, late, Fail, false},
		"a critical metric, off for too long": {[]Reading{with(value(9), policy(v1beta1.MetricPolicy{Critical: true}))}, late, Fail, false},
	} {
		v := Evaluate(asking(10, v1beta1.SplitEnforce, tc.before), append(tc.with, off))
		if v.Outcome != tc.want || v.Divided != tc.divided || len(v.Readings) != 1 || len(v.Record.Metrics) != 1 {
			t.Errorf("%s: %s %q", name, v.Outcome, v.Message)
		}
		if strings.Contains(name, "critical") != v.Critical {
			t.Errorf("%s: critical %v", name, v.Critical)
		}
	}
}

// Who only observes is told once that it begins, and once that it is over, and is never held.
func TestObservedSplit(t *testing.T) {
	var s *v1beta1.SplitStatus
	for i, tc := range []struct {
		weight          int32
		canary, primary int64
		warned, told    string
	}{
		{10, 100, 900, "", ""},
		{20, 600, 400, "Observed split would say: Halt podinfo.test advancement the share of the canary is 60%, of 1000", ""},
		{30, 650, 350, "", ""},
		{40, 7, 3, "", ""},
		{50, 500, 500, "", "Observed split passes: the share of the canary is 50%, and was to be 50%"},
		{50, 490, 510, "", ""},
	} {
		v := Evaluate(asking(tc.weight, v1beta1.SplitObserve, s), []Reading{shared(tc.canary, tc.primary)})
		s = v.Record.Split
		warned, told := strings.Join(v.Warned, "\n"), strings.Join(v.Observed, "\n")
		if v.Outcome != Pass || !strings.HasPrefix(warned, tc.warned) || warned != "" && tc.warned == "" || told != tc.told || !s.Observed {
			t.Errorf("check %d: %s, warned %q, told %q", i, v.Outcome, warned, told)
		}
	}
}

// A step that asks for no share is not judged, nor one of a run before, nor a check that is judged again.
func TestSplitThatIsNotAskedFor(t *testing.T) {
	c := asking(10, v1beta1.SplitEnforce, nil)
	c.Split = nil
	if v := Evaluate(c, []Reading{shared(900, 100)}); v.Outcome != Pass || v.Record.Split != nil {
		t.Errorf("no share is asked for: %s, %+v", v.Outcome, v.Record.Split)
	}
	if v := Evaluate(asking(10, v1beta1.SplitEnforce, nil), nil); v.Outcome != Pass || v.Record.Split != nil {
		t.Errorf("nobody counts: %s, %+v", v.Outcome, v.Record.Split)
	}
	c = asking(10, v1beta1.SplitEnforce, stood(10, "hold"))
	c.Before.Run--
	if v := Evaluate(c, []Reading{shared(3, 7)}); v.Outcome != Pass {
		t.Errorf("the run before was off: %s", v.Outcome)
	}
	first := Evaluate(asking(10, v1beta1.SplitEnforce, stood(10, "pass")), []Reading{shared(4, 9)}).Record
	again := asking(10, v1beta1.SplitEnforce, first.Split)
	again.Before.CheckedAt, again.Now = first.CheckedAt, noon.Add(20*time.Second)
	if v := Evaluate(again, []Reading{shared(5, 9)}); v.Record.Split.Above[0] != first.Split.Above[0] || v.Record.Split.CanaryRequests != 4 {
		t.Errorf("judged again: %+v after %+v", v.Record.Split, first.Split)
	}
}

// alarms is how many of so many runs are told to be off whose canary gets a share.
func alarms(r *rand.Rand, runs, checks, requests int, weight int32, share float64) float64 {
	told := 0
	for range runs {
		var s *v1beta1.SplitStatus
		for range checks {
			canary := int64(0)
			for range requests {
				if r.Float64() < share {
					canary++
				}
			}
			c := asking(weight, v1beta1.SplitObserve, s)
			c.Split.Settling = 0
			v := Evaluate(c, []Reading{shared(canary, int64(requests)-canary)})
			s = v.Record.Split
			if len(v.Warned) > 0 {
				told++
				break
			}
		}
	}
	return float64(told) / float64(runs)
}

// The rate is for a whole run that is looked at with each check, also of a share that is just within its bounds.
func TestSplitFalseAlarms(t *testing.T) {
	const (
		runs = 400
		rate = 0.01
	)
	r := rand.New(rand.NewPCG(7, 7))
	allowed := rate + 3*math.Sqrt(rate*(1-rate)/runs)
	for _, tc := range []struct {
		weight int32
		shares []float64
	}{{5, []float64{0.025, 0.05, 0.075}}, {50, []float64{0.4, 0.5, 0.6}}, {100, []float64{0.98, 1}}} {
		for _, share := range tc.shares {
			for _, requests := range []int{10, 100, 1000} {
				if got := alarms(r, runs, 30, requests, tc.weight, share); got > allowed {
					t.Errorf("weight %d, share %v, %d requests a check: %.1f %% false alarms, want at most %.1f %%", tc.weight, share, requests, 100*got, 100*allowed)
				}
			}
		}
	}
	for _, tc := range []struct {
		requests, checks int
		share            float64
	}{{10, 10, 1}, {100, 2, 0.5}, {100, 10, 0.3}, {1000, 1, 0.3}} {
		if got := alarms(r, 100, tc.checks, tc.requests, 10, tc.share); got < 0.95 {
			t.Errorf("share %v in place of 10 %%: told in %.0f %% of runs after %d checks of %d requests", tc.share, 100*got, tc.checks, tc.requests)
		}
	}
}

// What was right for hours is told as fast when it changes.
func TestSplitThatChangesLate(t *testing.T) {
	var s *v1beta1.SplitStatus
	look := func(canary, primary int64) Verdict {
		v := Evaluate(asking(20, v1beta1.SplitEnforce, s), []Reading{shared(canary, primary)})
		s = v.Record.Split
		return v
	}
	for range 200 {
		if v := look(200, 800); v.Outcome != Pass {
			t.Fatalf("%s %q", v.Outcome, v.Message)
		}
	}
	if v := look(500, 500); v.Outcome != Hold {
		t.Errorf("after 200 checks: %s", v.Outcome)
	}
	if v := look(210, 790); v.Outcome != Pass {
		t.Errorf("mended: %s %q", v.Outcome, v.Message)
	}
}
