// Package workqueue decides when which key gets a pass, and by whom. It knows nothing of Canaries: a key is a text, a pass a
// function.
//
// A Queue holds the keys that want a pass. A key comes into it in one of four ways:
//
//   - Add: something happened, such as an event of an informer. The pass comes as soon as a worker is free.
//   - Hurry: as Add, but the pass comes ahead of others. It is for what people wait for. One key in seventeen is of the others meanwhile,
//     so that these get on.
//   - Remind: a pass itself has changed something. As Add, but a key whose last pass failed stays in its pause; otherwise a
//     failure that is written into a status in ever other words would call for the next pass at once.
//   - by its time: after a pass the key has at most one next time. Succeeded sets it to what the pass asked for, Failed to a pause
//     that doubles from a second to a minute, Conflicted to a pause that doubles from 20 milliseconds to a minute. The last
//     one to be set holds.
//
// However often a key is asked for, it waits once, and it is never at work twice at a time. One that is asked for while it is at
// work comes back when that pass is done:
//
//	Add, Hurry, Remind ────┐
//	                       ▼
//	timer of the key ──► ready ──► Get ──► pass ──► Done
//	     ▲                                  │
//	     └── Succeeded, Failed, Conflicted ─┘
//
// Workers take the keys out and run the passes, a bounded number at a time. A pass waits for the API server and for nobody else:
// package inquiry is for that. Guard confines a panic to the pass that it happened in.
//
// All times are those of the clock that a Queue is made with; with a clock that a test moves, nothing here depends on how fast a
// machine is. Idle says whether anything is due or at work, which is what a test has to wait for before it looks at the result.
// Nothing is stored: who starts a process adds all keys there are.
package workqueue
