package controller

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
)

const (
	// quarrelWindow is how close together two changes of the same fields by somebody else make a quarrel. GitOps tools come
	// back every three minutes by default.
	quarrelWindow = 5 * time.Minute
	// firstPause and lastPause bound the time between two repairs in a quarrel. Each repair that is undone doubles it.
	firstPause = 10 * time.Second
	lastPause  = 5 * time.Minute
	// namedFields is how many fields a message names.
	namedFields = 3
)

// quarrels are the objects of one Canary that somebody else changes although they are ours. A process that starts knows of
// none: it finds out anew at the price of two repairs.
type quarrels map[router.Ref]*quarrel

// quarrel is one object and the repairs of it. It begins with the first repair that is undone, and is open, which is told and
// holds the rollout, from the second within the window until a repair lasts.
type quarrel struct {
	site *site
	// undone numbers the write of ours that was undone last, which was seen at the time foreign.
	undone  int
	foreign time.Time
	// repaired is when a repair was last tried, held until when the next one has to wait.
	repaired, held time.Time
	// calm is since when the object has been seen as wanted, zero if it is not.
	calm time.Time
	// lost counts the repairs that were undone and the times that the quarrel was taken up again.
	lost int
	open bool
	// fields are what was changed when the quarrel became open, none if the object was deleted.
	fields [][]string
	// message is what is told, empty until it is known who the other one is.
	message string
}

// pause is the least time between two repairs.
func (q *quarrel) pause() time.Duration {
	// Beyond the limit a shift would overflow.
	if q.lost > 5 {
		return lastPause
	}
	return min(firstPause<<q.lost, lastPause)
}

// undone notes that a write of ours was found undone. However often it is seen or done again before the next repair, it counts
// once.
func (all quarrels) undone(s *site, ref router.Ref, number int, fields [][]string, now time.Time) {
	q, ok := all[ref]
	switch {
	case !ok:
		all[ref] = &quarrel{site: s, undone: number, foreign: now}
		return
	case q.undone == number:
		q.calm = time.Time{}
		return
	case q.open:
		q.lost++
	case now.Sub(q.foreign) <= quarrelWindow:
		if q.message != "" {
			q.lost++
		}
		q.open, q.fields, q.message = true, fields, ""
	default:
		*q = quarrel{site: s}
	}
	q.undone, q.foreign, q.calm = number, now, time.Time{}
}

// asWanted notes that an object was seen as it should be. A quarrel ends when that has lasted as long as the pause that it
// came to.
func (all quarrels) asWanted(ref router.Ref, now time.Time) {
	q, ok := all[ref]
	if !ok {
		return
	}
	if q.calm.IsZero() {
		q.calm = now
	}
	if now.Sub(q.calm) >= q.pause() {
		q.open = false
	}
	if !q.open && now.Sub(q.foreign) > quarrelWindow {
		delete(all, ref)
	}
}

// holds is whether a repair has to wait. One that leads traffic to pods that can take it waits no longer than the first
// pause.
func (all quarrels) holds(ref router.Ref, urgent bool, now time.Time) bool {
	q, ok := all[ref]
	if !ok || !q.open {
		return false
	}
	pause := q.pause()
	if urgent {
		pause = firstPause
	}
	q.held = q.repaired.Add(pause)
	return now.Before(q.held)
}

// repair notes that an object is about to be written.
func (all quarrels) repair(ref router.Ref, now time.Time) {
	if q, ok := all[ref]; ok {
		q.repaired = now
	}
}

// wake is when the next repair may be made or a quarrel ends, zero if there is none. What was due and not done is up to the
// rules, and an event brings it back.
func (all quarrels) wake(now time.Time) time.Time {
	var wake time.Time
	for _, q := range all {
		at := q.held
		if !q.calm.IsZero() {
			at = q.calm.Add(q.pause())
		}
		if q.open && at.After(now) {
			wake = until(wake, at)
		}
	}
	return wake
}

// sorted lists the objects in the order of their names, so that the same one is told as long as it is there.
func (all quarrels) sorted() []router.Ref {
	var refs []router.Ref
	for ref := range all {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b router.Ref) int { return strings.Compare(a.String(), b.String()) })
	return refs
}

// untold is whether a quarrel became open that the rules have not heard of.
func (all quarrels) untold() bool {
	for _, q := range all {
		if q.open && q.message == "" {
			return true
		}
	}
	return false
}

// problem is the first open quarrel, nil if there is none.
func (all quarrels) problem() *rollout.Problem {
	for _, ref := range all.sorted() {
		if q := all[ref]; q.open && q.message != "" {
			return &rollout.Problem{Reason: rollout.ReasonContended, Message: q.message}
		}
	}
	return nil
}

// tell puts a quarrel into words. The manager is empty if it is not known.
func (q *quarrel) tell(ref router.Ref, manager string) {
	who := "somebody else"
	if manager != "" {
		who = fmt.Sprintf("field manager %q", manager)
	}
	what, remedy := "changing "+fieldNames(q.fields), "exclude what it changes from what it manages"
	if len(q.fields) == 0 {
		who, what, remedy = "somebody else", "deleting it", "find out who does"
	}
	q.message = fmt.Sprintf("%s: %s keeps %s: %s; until that stops it is repaired at growing intervals of up to %s, and no rollout goes on",
		ref, who, what, remedy, lastPause)
}

func fieldNames(fields [][]string) string {
	var names []string
	for _, path := range fields {
		names = append(names, strings.Join(path, "."))
	}
	if len(names) > namedFields {
		names = append(names[:namedFields], "others")
	}
	return strings.Join(names, ", ")
}
