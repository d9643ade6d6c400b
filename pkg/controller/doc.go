// Package controller is the loop around the rules of package rollout: it watches the cluster, gathers facts, asks the rules,
// writes the status, makes the world match it and tells what happened.
//
// One pass over one Canary is
//
//	observe -> rollout.Decide -> (fetch what it needs, observe again, Decide) -> write status -> apply actions -> publish
//
// Three subjects have packages of their own: cache is what a pass reads, workqueue when it comes and who runs it, outbox how
// its outcome is told. What is left here is the pass itself, and what spans the passes of all Canaries: who waits for whom (limit)
// and who acts at all (lease).
package controller
