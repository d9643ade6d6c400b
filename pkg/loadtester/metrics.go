package loadtester

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of a task in the metrics.
const (
	succeeded = "succeeded"
	failed    = "failed"
	timedOut  = "timeout"
	skipped   = "skipped"
	refused   = "refused"
)

// metrics tell what the load tester does. They have no label that a caller chooses: the log has the Canary of each task.
type metrics struct {
	tasks    *prometheus.CounterVec
	running  *prometheus.GaugeVec
	duration *prometheus.HistogramVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		tasks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flagger_loadtester_tasks_total",
			Help: "Tasks by type and result: succeeded, failed, timeout, skipped as the same one was running, refused.",
		}, []string{"type", "result"}),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "flagger_loadtester_tasks_running",
			Help: "Tasks that run now, by type.",
		}, []string{"type"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "flagger_loadtester_task_duration_seconds",
			Help: "Seconds that tasks took to their result, by type.",
			// From a smoke test to the default of -timeout.
			Buckets: []float64{.1, .5, 1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600},
		}, []string{"type"}),
	}
	registry.MustRegister(m.tasks, m.running, m.duration)
	return m
}

func (m *metrics) count(kind, result string) { m.tasks.WithLabelValues(kind, result).Inc() }

func (m *metrics) took(kind string, d time.Duration, err error) {
	m.duration.WithLabelValues(kind).Observe(d.Seconds())
	var timeout *timeoutError
	switch {
	case err == nil:
		m.count(kind, succeeded)
	case errors.As(err, &timeout):
		m.count(kind, timedOut)
	default:
		m.count(kind, failed)
	}
}
