// Package telemetry holds the Prometheus metrics of the operator. Every metric is described once, in definitions.go; the
// registration and docs/metrics.md follow from that.
//
// The label name of the per-Canary metrics is the name of the target, not of the Canary, as dashboards expect. The series of
// a Canary go when it goes.
package telemetry
