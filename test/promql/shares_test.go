package promql

import (
	"math"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// The share that the canary really gets is seen in what each mesh and ingress exports, and a side is never taken for the other.
func TestMeasuredShares(t *testing.T) {
	ok := func(n float64) requests { return requests{ok: n, milliseconds: 40} }
	for name, e := range exports(t) {
		for what, s := range map[string]struct {
			primary, canary requests
			share           float64
			want            analysis.Outcome
		}{
			"as asked for":         {ok(90), ok(10), 0.1, analysis.Pass},
			"a foreign route":      {ok(50), ok(50), 0.5, analysis.Hold},
			"nothing":              {ok(100), requests{}, 0, analysis.Hold},
			"never seen":           {ok(100), requests{unseen: scrapes + 1}, 0, analysis.Hold},
			"everything":           {requests{}, ok(100), 1, analysis.Hold},
			"half of them fail":    {ok(90), requests{ok: 5, failed: 5, milliseconds: 40}, 0.1, analysis.Pass},
			"no requests whatever": {requests{}, requests{}, math.NaN(), analysis.Pass},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				if e.together != "" || name == v1beta1.KnativeProvider {
					t.Skip("the sides are not told apart: ", e.together)
				}
				db := store(t, e, scenario{primary: s.primary, canary: s.canary}, nil)
				v, r := dividedBy(t, name, e, db)
				got := float64(r.Counts.Canary.Total) / float64(r.Counts.Canary.Total+r.Counts.Primary.Total)
				if math.Abs(got-s.share) > 0.02 || math.IsNaN(got) != math.IsNaN(s.share) || v.Outcome != s.want {
					t.Errorf("%+v: %s %q, want a share of %v, %s", r.Counts, v.Outcome, v.Message, s.share, s.want)
				}
			})
		}
	}
}

// Where a label that tells the sides apart is missing at the primary, its share is not known, and not 0.
func TestSharesWithoutLabels(t *testing.T) {
	s := scenario{primary: requests{ok: 90, milliseconds: 40}, canary: requests{ok: 10, milliseconds: 40}}
	for name, e := range exports(t) {
		if e.together != "" || name == v1beta1.KnativeProvider {
			continue
		}
		for _, label := range labelsOf(e) {
			t.Run(name+"/"+label, func(t *testing.T) {
				v, r := dividedBy(t, name, e, store(t, e, s, func(l labels.Labels, of side) (labels.Labels, bool) {
					if of == canary {
						return l, true
					}
					return labels.NewBuilder(l).Del(label).Labels(), true
				}))
				known := r.State == analysis.Value
				if known && v.Outcome != analysis.Pass || !known && (v.Outcome != analysis.Hold || !strings.Contains(v.Message, "is not known")) {
					t.Errorf("%+v: %s %q", r, v.Outcome, v.Message)
				}
			})
		}
	}
}
