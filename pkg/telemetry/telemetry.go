package telemetry

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"

	"flagger.app/flagger/pkg/analysis"
	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Values of flagger_canary_status.
const (
	statusRunning = 0
	statusOther   = 1
	statusFailed  = 2
)

// Recorder keeps the metrics of the operator. It is safe for concurrent use.
type Recorder struct {
	registry *prometheus.Registry
	vectors  vectors

	// mu guards the maps, and keeps the steps of one observation together.
	mu sync.Mutex
	// targets are the Canaries that exist, with the names of their workloads.
	targets map[object]workloads
	// standings are what is shown of how targets stand, by namespace and name.
	standings map[object]standing
	// metrics are the names of the metrics that Canaries had in their last analysis step.
	metrics map[object][]string
	// totals are the numbers of Canaries by namespace.
	totals map[string]int
	// moments are how Canaries stood when that was last accounted for.
	moments map[object]moment
}

type object struct{ namespace, name string }

// workloads are the target and the primary of a Canary.
type workloads struct{ target, primary string }

// standing is what the series say whose labels change with how a target stands. The one before is deleted by its labels: to look for it
// takes a look at the series of all Canaries.
type standing struct {
	phase   v1beta1.CanaryPhase
	reason  string
	healthy bool
}

// New returns a Recorder with a registry of its own.
func New(version, meshProvider string) *Recorder {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	r := &Recorder{
		registry:  registry,
		vectors:   register(registry),
		targets:   map[object]workloads{},
		standings: map[object]standing{},
		metrics:   map[object][]string{},
		totals:    map[string]int{},
		moments:   map[object]moment{},
	}
	r.vectors.gauges[nameInfo].WithLabelValues(version, meshProvider).Set(1)
	return r
}

// Handler serves the metrics.
func (r *Recorder) Handler() http.Handler {
	return promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{Registry: r.registry})
}

// Registry is for the metrics of libraries that should be served as well.
func (r *Recorder) Registry() *prometheus.Registry { return r.registry }

// See notes that the Canary exists. Every other observation about a Canary does so as well.
func (r *Recorder) See(c *v1beta1.Canary) {
	r.observe(c, func(string) {})
}

// Forget removes the series of a Canary that is gone.
func (r *Recorder) Forget(namespace, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	target, ok := r.targets[object{namespace, name}]
	if !ok {
		return
	}
	delete(r.targets, object{namespace, name})
	delete(r.metrics, object{namespace, name})
	delete(r.moments, object{namespace, name})
	r.dropTarget(namespace, target)
	r.count(namespace, -1)
}

// observe notes that the Canary exists and runs do with the name of its target. A Canary that got another target loses the
// series of the one before.
func (r *Recorder) observe(c *v1beta1.Canary, do func(target string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := object{c.Namespace, c.Name}
	now := workloads{c.Spec.TargetRef.Name, c.GetPrimaryName()}
	before, known := r.targets[key]
	r.targets[key] = now
	switch {
	case !known:
		r.count(c.Namespace, 1)
	case before != now:
		r.dropTarget(c.Namespace, before)
	}
	do(now.target)
}

// count changes the number of Canaries of a namespace. A namespace without any has no series.
func (r *Recorder) count(namespace string, by int) {
	r.totals[namespace] += by
	if r.totals[namespace] == 0 {
		delete(r.totals, namespace)
		r.vectors.gauges[nameTotal].DeleteLabelValues(namespace)
		return
	}
	r.vectors.gauges[nameTotal].WithLabelValues(namespace).Set(float64(r.totals[namespace]))
}

// dropTarget removes the series of a target and its primary unless another Canary has a target of the same name.
func (r *Recorder) dropTarget(namespace string, before workloads) {
	target := before.target
	for key, other := range r.targets {
		if key.namespace == namespace && other.target == target {
			return
		}
	}
	delete(r.standings, object{namespace, target})
	r.vectors.deleteSeries(prometheus.Labels{"namespace": namespace, "name": target})
	r.vectors.deleteSeries(prometheus.Labels{"namespace": namespace, "workload": target})
	r.vectors.deleteSeries(prometheus.Labels{"namespace": namespace, "workload": before.primary})
}

// Phase records the phase of the Canary, and its condition Healthy.
func (r *Recorder) Phase(c *v1beta1.Canary, phase v1beta1.CanaryPhase) {
	status := float64(statusOther)
	switch phase {
	case v1beta1.CanaryPhaseProgressing:
		status = statusRunning
	case v1beta1.CanaryPhaseFailed:
		status = statusFailed
	default:
	}
	r.observe(c, func(target string) {
		r.vectors.gauges[nameStatus].WithLabelValues(target, c.Namespace).Set(status)
		r.stand(c.Namespace, target, standingOf(c, phase))
	})
}

// noProblem is the reason of a Canary that never had a condition Healthy.
const noProblem = "Healthy"

func standingOf(c *v1beta1.Canary, phase v1beta1.CanaryPhase) standing {
	now := standing{phase: phase, reason: noProblem, healthy: true}
	for _, condition := range c.Status.Conditions {
		if condition.Type == v1beta1.HealthyType {
			now.reason, now.healthy = condition.Reason, condition.Status == corev1.ConditionTrue
		}
	}
	return now
}

// stand shows how a target stands: one series for its phase, if it has one, and one for its health.
func (r *Recorder) stand(namespace, target string, now standing) {
	key := object{namespace, target}
	before, known := r.standings[key]
	if known && before == now {
		return
	}
	r.standings[key] = now
	phases, health := r.vectors.gauges[namePhase], r.vectors.gauges[nameHealthy]
	if known {
		phases.DeleteLabelValues(target, namespace, string(before.phase))
		health.DeleteLabelValues(target, namespace, before.reason)
	}
	if now.phase != "" {
		phases.WithLabelValues(target, namespace, string(now.phase)).Set(1)
	}
	value := 0.0
	if now.healthy {
		value = 1
	}
	health.WithLabelValues(target, namespace, now.reason).Set(value)
}

// Weights records the percentages of traffic that the routes send to the primary and to the target.
func (r *Recorder) Weights(c *v1beta1.Canary, primary, canary int32) {
	r.observe(c, func(target string) {
		weights := r.vectors.gauges[nameWeight]
		weights.WithLabelValues(c.GetPrimaryName(), c.Namespace).Set(float64(primary))
		weights.WithLabelValues(target, c.Namespace).Set(float64(canary))
	})
}

// Split records how the requests were really divided, while a rollout is under way whose last check has counted them.
func (r *Recorder) Split(c *v1beta1.Canary) {
	r.observe(c, func(target string) {
		gauge, primary := r.vectors.gauges[nameMeasured], c.GetPrimaryName()
		s := measured(c)
		if s == nil {
			gauge.DeleteLabelValues(target, c.Namespace)
			gauge.DeleteLabelValues(primary, c.Namespace)
			return
		}
		share := 100 * float64(s.CanaryRequests) / float64(s.CanaryRequests+s.PrimaryRequests)
		gauge.WithLabelValues(target, c.Namespace).Set(share)
		gauge.WithLabelValues(primary, c.Namespace).Set(100 - share)
	})
}

// measured is the split of the run that is under way, nil if it is not known.
func measured(c *v1beta1.Canary) *v1beta1.SplitStatus {
	running := c.Status.Phase == v1beta1.CanaryPhaseProgressing || c.Status.Phase == v1beta1.CanaryPhaseWaitingPromotion
	r := c.Status.Rollout
	if !running || r == nil || r.Checks == nil || r.Checks.Run != r.Run || r.Checks.Split == nil {
		return nil
	}
	if s := r.Checks.Split; s.CanaryRequests+s.PrimaryRequests > 0 {
		return s
	}
	return nil
}

// Readings records the values among the readings of an analysis step, which has one for each metric of the Canary. What has
// no value keeps its last one; a metric that the Canary has no more loses its series.
func (r *Recorder) Readings(c *v1beta1.Canary, readings []analysis.Reading) {
	r.observe(c, func(target string) {
		gauge, key := r.vectors.gauges[nameAnalysis], object{c.Namespace, c.Name}
		var names []string
		for _, reading := range readings {
			names = append(names, reading.Metric.Name)
			if reading.State == analysis.Value {
				gauge.WithLabelValues(target, c.Namespace, reading.Metric.Name).Set(inSeconds(reading))
			}
		}
		for _, before := range r.metrics[key] {
			if !slices.Contains(names, before) {
				gauge.DeleteLabelValues(target, c.Namespace, before)
				r.vectors.counters[nameChecks].DeletePartialMatch(prometheus.Labels{"name": target, "namespace": c.Namespace, "metric": before})
			}
		}
		r.metrics[key] = names
	})
}

// inSeconds is the value of a reading, with request-duration, which is judged in milliseconds, in seconds.
func inSeconds(reading analysis.Reading) float64 {
	if reading.Source == analysis.Duration && !analysis.Counted(reading.Metric) {
		return reading.Value / 1000
	}
	return reading.Value
}

// Duration records how long an analysis step took.
func (r *Recorder) Duration(c *v1beta1.Canary, d time.Duration) {
	r.observe(c, func(target string) {
		r.vectors.histograms[nameDuration].WithLabelValues(target, c.Namespace).Observe(d.Seconds())
	})
}

// Succeeded counts a rollout that was promoted; skipped is whether it was without analysis.
func (r *Recorder) Succeeded(c *v1beta1.Canary, skipped bool) { r.finished(nameSuccesses, c, skipped) }

// Failed counts a rollout that failed. As in Flagger its analysis counts as completed, even where there was none to be.
func (r *Recorder) Failed(c *v1beta1.Canary) { r.finished(nameFailures, c, false) }

func (r *Recorder) finished(metric string, c *v1beta1.Canary, skipped bool) {
	status := "completed"
	if skipped {
		status = "skipped"
	}
	r.observe(c, func(target string) {
		r.vectors.counters[metric].WithLabelValues(target, c.Namespace, c.DeploymentStrategy(), status).Inc()
	})
}

// Decision counts a decision of the named rule.
func (r *Recorder) Decision(rule string) {
	r.vectors.counters[nameRule].WithLabelValues(rule).Inc()
}
