// Package cache is what a pass reads: the objects of a cluster, without a call for each. A Canary at rest costs the API server
// nothing.
//
// A Cluster watches the resources that somebody asked for, and no others; Ensure asks, and says whether the resource can be read by
// now. A resource that is not installed, or was removed, is looked for until it is there; whoever asked is woken then. Objects are
// unstructured, so that one that does not fit anybody's types keeps no other out of the list.
//
// What is kept is what the rules read and no more. Of ConfigMaps and Secrets that is the sums of their contents, of no object who
// wrote which field of it. A store keeps objects as JSON (packed.go). Whoever reads one decodes it, or shares what another has decoded: so
// nobody may change it. Whether it is the one that was seen before can be asked without that.
//
// There are four questions, and a file for each:
//
//	informers.go    what does the API server have?   one informer a resource, and the states it goes through
//	consistency.go  what did we write just now?      answers to our own writes, until the informer shows them
//	index.go        who looked at what?              a change of an object wakes the Canaries that looked at it, and no others
//	canaries.go     which Canaries are there?        with their own indexes: who wants the same target (rivals.go); and the
//	                                                 one way of writing a status (status.go)
//
// A read takes the newer of two states:
//
//	          write ──────► API server ──────► informer
//	            │ answer                          │
//	            ▼                                 ▼
//	       consistency ──► the newer of the two ◄── store
//	                              │
//	Reads (notes who reads what) ◄┘──► pass
//
// So a pass never decides on a state older than what its predecessor wrote. What consistency keeps is bounded: an answer goes when
// the informer shows it or a newer state, when it tells of the deletion, or when it is too old to be believed.
//
// Nothing here calls back into a pass. OnEvent and OnState of a Config are told what changed, without a lock held, and must
// not block. A test can stand on a Cluster with a fake client and the Discovery of package cachetest; Reads takes any
// router.Live.
package cache
