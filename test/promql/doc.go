// Package promql asks the built-in metrics of real Prometheus series, with the engine of Prometheus. It is a module of its own, so that
// nothing else depends on Prometheus.
package promql
