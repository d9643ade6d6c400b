// Package inquiry keeps the questions that wait for an answer of somebody else: a webhook, which may take an hour, or a slow
// metric server. It knows nothing of Canaries: a key is a text, a question has an ID, and its answer is any value.
//
// Nobody waits for an answer. A pass looks which answers are there, decides with them, and says afterwards which questions it
// has and which of the earlier ones may still count:
//
//	pass ──► Answers ──► decide ──► Keep ──► Ask ──► the pass ends
//	  ▲                              │        │
//	  │                              │        └─► call ──► answer ──► wake(key)
//	  └── wake ◄── events, timers    └─► cancels what is void
//
// So whatever happens while an answer is outstanding is acted on as if there were no question, and an answer counts only for
// the ID that it was asked under. An ID that is kept is asked once, however many passes ask for it; its answer stays until
// the ID is not kept any more. What comes from a call that was canceled is dropped.
//
// A call that panics ends nothing but itself: Panicked tells of it until there is an answer, and Ask repeats it after a pause
// that doubles from a second to a minute.
//
// What is held is bounded. A key holds the questions that its last pass kept, and no more than a fixed number of calls at a
// time, canceled ones that do not come back included; a key without questions holds nothing. All calls end with the context
// that they were asked with, which is that of the leader, and Stop returns when all have come back.
package inquiry
