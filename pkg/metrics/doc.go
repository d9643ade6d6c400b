// Package metrics reads the metrics of an analysis. It knows the built-in queries of each mesh and ingress, renders
// queries, asks the back-ends in parallel, and hands the readings to package analysis, which judges them.
package metrics
