// Package controller is the loop around the rules of package rollout: it watches the cluster, gathers facts, asks the rules,
// writes the status, makes the world match it and tells what happened.
//
// One pass over one Canary is
//
//	observe -> rollout.Decide -> (fetch what it needs, observe again, Decide) -> write status -> apply actions -> publish
//
// Everything that a pass reads comes from informers, so a Canary at rest costs the API server nothing. Objects that the
// operator itself has written are read back from the answer of the write until the informers have caught up.
package controller
