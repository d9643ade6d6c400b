// Package outbox tells the world what the rules decided: log lines, events, alerts and webhooks.
//
// What is to be told stands in the status of the Canary, as a list of numbered notices. So it is written in the same write as the
// decision that it tells of, and survives a crash between the two. A pass hands the stored Canary over; telling happens beside
// the passes, and no receiver, however slow, ever delays a rollout:
//
//	status.rollout.outbox of a Canary, as stored
//	     │ Offer
//	     ▼
//	log line, event of each notice, in order      an event that is refused again and again is given up
//	     ├──────────────┬──────────────┐
//	     ▼              ▼              ▼
//	who gets alerts   who gets events  webhooks     one lane for each receiver, in order; what it answers goes to the log, and
//	     │              │              │            nowhere else
//	     └──────────────┴──────────────┘
//	     ▼
//	Delivered ──► the next pass takes the notices out of the status that all were told
//
// Events come first, since whoever looks at a Canary looks there, and the API server is quick. Then each receiver is told by itself:
// one that hangs keeps nobody else from what comes next. Webhooks that decide nothing, such as those of type post-rollout, are called
// here as well, one after the other, and the answer of each becomes an event.
//
// Telling is at least once. A process that starts tells all that it finds, since it can't know how far the last one came: the
// name of an event follows from the Canary and the number of the notice, so that the event meets itself and nobody sees it twice;
// webhooks carry a key that is the same each time. What failed is tried again with growing pauses, in the same order. A Canary that
// is gone is forgotten after its last words.
//
// A Publisher needs no controller: a test offers it Canaries and looks at the events, alerts and calls that come of them. Idle says
// when all is told. For each Canary at rest it keeps three numbers and the Canary itself, and nothing about one that was forgotten.
package outbox
