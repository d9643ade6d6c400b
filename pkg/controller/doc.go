// Package controller is the loop around the rules of package rollout: it watches the cluster, gathers facts, asks the rules,
// writes the status, makes the world match it and tells what happened.
//
// One pass over one Canary is
//
//	observe -> rollout.Resolve -> write status -> ask what is not known -> apply actions -> publish
//
// A pass waits for nobody: the answer of a webhook or a metric server brings the next one. Four subjects have packages of their
// own: cache is what a pass reads, workqueue when it comes and who runs it, inquiry what it asks others, outbox how its
// outcome is told. What is left here is the pass itself, and what spans the passes of all Canaries: who waits for whom (limit)
// and who acts: one process on all of them (lease), or each on its share (shards and crew, by package sharding).
package controller
