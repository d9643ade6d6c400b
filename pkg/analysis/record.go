package analysis

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

const (
	// maxText is the most, in bytes, of a query or a reason in the status.
	maxText = 1024
	// maxTexts is the most of all of them together: etcd takes objects of 1.5 MB, and every pass reads the status.
	maxTexts = 16 << 10
)

// newRecord is what the check leaves behind, before the first metric is judged.
func (c Check) newRecord() *v1beta1.ChecksStatus {
	return &v1beta1.ChecksStatus{Run: c.Run, Check: c.Number, CheckedAt: micro(c.Now), TrafficSince: micro(c.trafficSince())}
}

// trafficSince is since when the canary has had traffic. If nobody noted that, this is the first one who can.
func (c Check) trafficSince() time.Time {
	if b := c.Before; b != nil && b.Run == c.Run && b.TrafficSince != nil && !b.TrafficSince.After(c.Now) {
		return b.TrafficSince.Time
	}
	return c.Now
}

// before is what the last check of this run made of the same metric with the same bound, nil if it made nothing of it.
func (c Check) before(r Reading) *v1beta1.MetricVerdict {
	if c.Before == nil || c.Before.Run != c.Run {
		return nil
	}
	bound := boundText(r)
	for i := range c.Before.Metrics {
		v := &c.Before.Metrics[i]
		if v.Name == r.Metric.Name && v.Index == int32(r.Index) && v.Source == string(r.Source) && v.Bound == bound {
			return v
		}
	}
	return nil
}

func newVerdict(r Reading) v1beta1.MetricVerdict {
	v := v1beta1.MetricVerdict{
		Name: r.Metric.Name, Index: int32(r.Index), Source: string(r.Source), Query: r.Query,
		Observed: r.Metric.Mode == v1beta1.ModeObserve, Samples: r.Samples,
	}
	if r.State == Value && !Counted(r.Metric) {
		v.Value = number(r.Value)
		if r.Metric.Comparison != nil {
			v.Primary = number(r.Primary)
		}
	}
	return v
}

// carryNoData goes on with the time since when there has been no data.
func carryNoData(v, before *v1beta1.MetricVerdict) {
	if before != nil {
		v.NoDataSince = before.NoDataSince
	}
}

// boundText is the range of good values as the status shows it.
func boundText(r Reading) string {
	if r.Metric.Comparison != nil {
		return comparisonText(*r.Metric.Comparison)
	}
	lower, upper := bounds(r)
	return rangeText(lower, upper)
}

func rangeText(lower, upper *float64) string {
	var parts []string
	if lower != nil {
		parts = append(parts, ">= "+number(*lower))
	}
	if upper != nil {
		parts = append(parts, "<= "+number(*upper))
	}
	return strings.Join(parts, " and ")
}

// number writes a value so that a human reads it; what is finer than a millionth is noise.
func number(v float64) string {
	if math.Abs(v) >= 1e15 || math.IsInf(v, 0) || math.IsNaN(v) {
		return strconv.FormatFloat(v, 'g', 6, 64)
	}
	return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64)
}

// shorten keeps the record small, however many metrics there are and however long their queries.
func shorten(metrics []v1beta1.MetricVerdict) {
	if len(metrics) == 0 {
		return
	}
	each := min(maxText, maxTexts/len(metrics))
	for i := range metrics {
		metrics[i].Query, metrics[i].Reason = cut(metrics[i].Query, each), cut(metrics[i].Reason, each)
	}
}

// cut shortens a text to a number of bytes, between two characters.
func cut(text string, most int) string {
	const ellipsis = "…"
	if len(text) <= most {
		return text
	}
	end := most - len(ellipsis)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:max(0, end)] + ellipsis
}

func micro(t time.Time) *metav1.MicroTime {
	m := metav1.NewMicroTime(t.Truncate(time.Microsecond))
	return &m
}
