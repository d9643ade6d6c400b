package telemetry

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// definition describes one metric.
type definition struct {
	name   string
	kind   string
	labels []string
	help   string
	// buckets are the upper bounds of a histogram, in seconds. Default: those of the client library, up to 10.
	buckets []float64
}

const (
	gauge     = "gauge"
	counter   = "counter"
	histogram = "histogram"
)

// The names are those of Flagger, up to and including failures; the others are additions.
const (
	nameInfo      = "flagger_info"
	nameTotal     = "flagger_canary_total"
	nameStatus    = "flagger_canary_status"
	nameWeight    = "flagger_canary_weight"
	nameAnalysis  = "flagger_canary_metric_analysis"
	nameDuration  = "flagger_canary_duration_seconds"
	nameSuccesses = "flagger_canary_successes_total"
	nameFailures  = "flagger_canary_failures_total"
	namePhase     = "flagger_canary_phase"
	nameRule      = "flagger_rule_total"
	namePhaseTime = "flagger_canary_phase_seconds_total"
	nameChecks    = "flagger_canary_checks_total"
	nameQueries   = "flagger_metric_query_duration_seconds"
	nameHooks     = "flagger_hook_duration_seconds"
	nameAlerts    = "flagger_alerts_total"
	nameHealthy   = "flagger_canary_healthy"
	nameMeasured  = "flagger_canary_measured_weight"
)

// These are about the process. The names are those that other operators have, so that their dashboards fit.
const (
	nameQueueDepth   = "workqueue_depth"
	nameQueueAdds    = "workqueue_adds_total"
	nameQueueLatency = "workqueue_queue_duration_seconds"
	nameQueueWork    = "workqueue_work_duration_seconds"
	nameQueueRetries = "workqueue_retries_total"
	nameCalls        = "rest_client_requests_total"
	nameCallTime     = "rest_client_request_duration_seconds"
	nameLeader       = "leader_election_master_status"
)

func definitions() []definition {
	canary := []string{"name", "namespace"}
	outcome := []string{"name", "namespace", "deployment_strategy", "analysis_status"}
	queue := []string{"name"}
	hookTimes := []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1800}
	queueTimes := []float64{0.001, 0.01, 0.1, 1, 10, 60}
	return []definition{
		{nameInfo, gauge, []string{"version", "mesh_provider"}, "The version of the operator and its default provider. Always 1.", nil},
		{nameTotal, gauge, []string{"namespace"}, "Number of Canaries in a namespace.", nil},
		{nameStatus, gauge, canary, "How the last rollout stands: 0 is in progress, 1 is any other state, 2 is failed. flagger_canary_phase tells more.", nil},
		{nameWeight, gauge, []string{"workload", "namespace"}, "Percentage of the traffic that the routes send to a workload: the target or its primary.", nil},
		{nameMeasured, gauge, []string{"workload", "namespace"}, "Percentage of the requests that a workload, the target or its primary, got before the last check of a rollout. There only while a rollout asks for a share, and the metrics server tells the sides apart.", nil},
		{nameAnalysis, gauge, []string{"name", "namespace", "metric"}, "Last value of a metric of the analysis, as its provider returned it; request-duration is in seconds.", nil},
		{nameDuration, histogram, canary, "Seconds that an analysis step took, hooks and metric queries included.", nil},
		{nameSuccesses, counter, outcome, "Rollouts that were promoted. deployment_strategy is canary, blue-green or ab-testing; analysis_status is completed or skipped.", nil},
		{nameFailures, counter, outcome, "Rollouts that failed. The labels are those of flagger_canary_successes_total, but analysis_status is always completed.", nil},
		{namePhase, gauge, []string{"name", "namespace", "phase"}, "The phase of a Canary: 1 for the present one, no series for the others.", nil},
		{nameHealthy, gauge, []string{"name", "namespace", "reason"}, "Condition Healthy of a Canary: 1 if it is true or not there, 0 otherwise. The only series has the reason of the condition, Healthy where there is none.", nil},
		{nameRule, counter, []string{"rule"}, "Decisions, by the rule that made them.", nil},
		{namePhaseTime, counter, []string{"name", "namespace", "phase", "wait"}, "Seconds that the Canary spent in a phase of a rollout. wait is approval while people, or their gates, are waited for, and none otherwise.", nil},
		{nameChecks, counter, []string{"name", "namespace", "metric", "outcome"}, "Checks of a metric in analysis steps, by their outcome: pass, fail, hold or error.", nil},
		{nameQueries, histogram, []string{"name", "namespace", "provider", "result"}, "Seconds that a query took, by the type of the back-end. result is value, no_data or error.", nil},
		{nameHooks, histogram, []string{"name", "namespace", "type", "result"}, "Seconds that a call of a webhook took with its retries, by the type of the webhook; event is that of events. result is passed or failed.", hookTimes},
		{nameAlerts, counter, []string{"name", "namespace", "result"}, "Alerts to each of their receivers, by what became of them: delivered or failed.", nil},
		{nameQueueDepth, gauge, queue, "Number of Canaries that wait for a worker. name is canaries for passes, outbox for their events, and receivers for who gets alerts or webhooks, where each receiver of a Canary counts.", nil},
		{nameQueueAdds, counter, queue, "Number of times that a Canary was put in the queue.", nil},
		{nameQueueLatency, histogram, queue, "Seconds that a Canary waited for a worker.", queueTimes},
		{nameQueueWork, histogram, queue, "Seconds that the work on a Canary took.", queueTimes},
		{nameQueueRetries, counter, queue, "Number of times that the work on a Canary failed and is repeated.", nil},
		{nameCalls, counter, []string{"code", "method", "host"}, "Calls to API servers by HTTP status; code is error for calls without an answer.", nil},
		{nameCallTime, histogram, []string{"verb", "host"}, "Seconds until an API server began to answer.", nil},
		{nameLeader, gauge, queue, "1 for the process that acts, 0 for those that wait until it is gone. name is that of the lease, also where no leader is elected.", nil},
	}
}

// Docs is the text of docs/metrics.md.
func Docs() string {
	var b strings.Builder
	b.WriteString(`# Metrics of the operator

<!-- Generated by go test ./pkg/telemetry -update. Do not edit. -->

The operator serves these metrics on ` + "`/metrics`" + ` of its HTTP port, next to those of the Go runtime (` + "`go_*`" + `)
and of the process (` + "`process_*`" + `). The label ` + "`name`" + ` is the name of the target, not of the Canary, but in ` + "`workqueue_*`" + `.
All series of a Canary go away with it.

| Metric | Type | Labels | Meaning |
| --- | --- | --- | --- |
`)
	for _, d := range definitions() {
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s |\n", d.name, d.kind, strings.Join(d.labels, "`, `"), d.help)
	}
	return b.String()
}

// vectors are the metrics in the form the client library wants.
type vectors struct {
	gauges     map[string]*prometheus.GaugeVec
	counters   map[string]*prometheus.CounterVec
	histograms map[string]*prometheus.HistogramVec
}

func register(registry *prometheus.Registry) vectors {
	v := vectors{
		gauges:     map[string]*prometheus.GaugeVec{},
		counters:   map[string]*prometheus.CounterVec{},
		histograms: map[string]*prometheus.HistogramVec{},
	}
	for _, d := range definitions() {
		switch d.kind {
		case gauge:
			v.gauges[d.name] = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: d.name, Help: d.help}, d.labels)
			registry.MustRegister(v.gauges[d.name])
		case counter:
			v.counters[d.name] = prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.name, Help: d.help}, d.labels)
			registry.MustRegister(v.counters[d.name])
		case histogram:
			opts := prometheus.HistogramOpts{Name: d.name, Help: d.help, Buckets: d.buckets}
			if opts.Buckets == nil {
				opts.Buckets = prometheus.DefBuckets
			}
			v.histograms[d.name] = prometheus.NewHistogramVec(opts, d.labels)
			registry.MustRegister(v.histograms[d.name])
		}
	}
	return v
}

// deleteSeries removes the series with these labels from every metric that has all of them.
func (v vectors) deleteSeries(labels prometheus.Labels) {
	for _, vec := range v.gauges {
		vec.DeletePartialMatch(labels)
	}
	for _, vec := range v.counters {
		vec.DeletePartialMatch(labels)
	}
	for _, vec := range v.histograms {
		vec.DeletePartialMatch(labels)
	}
}
