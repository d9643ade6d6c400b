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
	// contentionWindow is how close together two changes of the same fields by somebody else make a contention. GitOps tools come
	// back every three minutes by default.
	contentionWindow = 5 * time.Minute
	// firstPause and lastPause bound the time between two repairs in a contention. Each repair that is undone doubles it.
	firstPause = 10 * time.Second
	lastPause  = 5 * time.Minute
	// namedFields is how many fields a message names.
	namedFields = 3
)

// contentions are the objects of one Canary that somebody else changes although they are ours. A process that starts knows of
// none: it finds out anew at the price of two repairs.
type contentions map[router.Ref]*contention

// contention is one object and the repairs of it. It begins with the first repair that is undone, and is open, which is told and
// holds the rollout, from the second within the window until a repair lasts.
type contention struct {
	site *site
	// undone numbers the write of ours that was undone last, which was seen at the time foreign.
	undone  int
	foreign time.Time
	// repaired is when a repair was last tried, held until when the next one has to wait.
	repaired, held time.Time
	// calm is since when the object has been seen as wanted, zero if it is not.
	calm time.Time
	// lost counts the repairs that were undone and the times that the contention was taken up again.
	lost int
	open bool
	// fields are what was changed when the contention became open, none if the object was deleted.
	fields [][]string
	// message is what is told, empty until it is known who the other one is.
	message string
}

// pause is the least time between two repairs.
func (c *contention) pause() time.Duration {
	// Beyond the limit a shift would overflow.
	if c.lost > 5 {
		return lastPause
	}
	return min(firstPause<<c.lost, lastPause)
}

// undone notes that a write of ours was found undone. However often it is seen or done again before the next repair, it counts
// once.
func (all contentions) undone(s *site, ref router.Ref, number int, fields [][]string, now time.Time) {
	c, ok := all[ref]
	switch {
	case !ok:
		all[ref] = &contention{site: s, undone: number, foreign: now}
		return
	case c.undone == number:
		c.calm = time.Time{}
		return
	case c.open:
		c.lost++
	case now.Sub(c.foreign) <= contentionWindow:
		if c.message != "" {
			c.lost++
		}
		c.open, c.fields, c.message = true, fields, ""
	default:
		*c = contention{site: s}
	}
	c.undone, c.foreign, c.calm = number, now, time.Time{}
}

// asWanted notes that an object was seen as it should be. A contention ends when that has lasted as long as the pause that it
// came to.
func (all contentions) asWanted(ref router.Ref, now time.Time) {
	c, ok := all[ref]
	if !ok {
		return
	}
	if c.calm.IsZero() {
		c.calm = now
	}
	if now.Sub(c.calm) >= c.pause() {
		c.open = false
	}
	if !c.open && now.Sub(c.foreign) > contentionWindow {
		delete(all, ref)
	}
}

// holds is whether a repair has to wait. One that leads traffic to pods that can take it waits no longer than the first
// pause.
func (all contentions) holds(ref router.Ref, urgent bool, now time.Time) bool {
	c, ok := all[ref]
	if !ok || !c.open {
		return false
	}
	pause := c.pause()
	if urgent {
		pause = firstPause
	}
	c.held = c.repaired.Add(pause)
	return now.Before(c.held)
}

// repair notes that an object is about to be written.
func (all contentions) repair(ref router.Ref, now time.Time) {
	if c, ok := all[ref]; ok {
		c.repaired = now
	}
}

// wake is when the next repair may be made or a contention ends, zero if there is none. What was due and not done is up to the
// rules, and an event brings it back.
func (all contentions) wake(now time.Time) time.Time {
	var wake time.Time
	for _, c := range all {
		at := c.held
		if !c.calm.IsZero() {
			at = c.calm.Add(c.pause())
		}
		if c.open && at.After(now) {
			wake = until(wake, at)
		}
	}
	return wake
}

// sorted lists the objects in the order of their names, so that the same one is told as long as it is there.
func (all contentions) sorted() []router.Ref {
	var refs []router.Ref
	for ref := range all {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b router.Ref) int { return strings.Compare(a.String(), b.String()) })
	return refs
}

// untold is whether a contention became open that the rules have not heard of.
func (all contentions) untold() bool {
	for _, c := range all {
		if c.open && c.message == "" {
			return true
		}
	}
	return false
}

// problem is the first open contention, nil if there is none.
func (all contentions) problem() *rollout.Problem {
	for _, ref := range all.sorted() {
		if c := all[ref]; c.open && c.message != "" {
			return &rollout.Problem{Reason: rollout.ReasonContended, Message: c.message}
		}
	}
	return nil
}

// tell puts a contention into words. The manager is empty if it is not known.
func (c *contention) tell(ref router.Ref, manager string) {
	who := "somebody else"
	if manager != "" {
		who = fmt.Sprintf("field manager %q", manager)
	}
	what, remedy := "changing "+fieldNames(c.fields), "exclude what it changes from what it manages"
	if len(c.fields) == 0 {
		who, what, remedy = "somebody else", "deleting it", "find out who does"
	}
	c.message = fmt.Sprintf("%s: %s keeps %s: %s; until that stops it is repaired at growing intervals of up to %s, and no rollout goes on",
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
