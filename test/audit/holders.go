package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Claim is one version of the record of who holds which shard, as its writer wrote it. Claims are told in the order of their versions.
type Claim struct {
	// By is the writer, which shows by it that it lives.
	By string
	// Began and Answered are when the write was sent and when its writer may first have known that it succeeded.
	Began, Answered time.Time
	// Owners are the holders by shard. A shard that is not in it is free.
	Owners map[int]string
}

// Write is a call that changed or meant to change something that belongs to a key.
type Write struct {
	By, Key string
	Shard   int
	// Began and Ended are when the API server received it and when it was done.
	Began, Ended time.Time
	// What is for the reader of a breach.
	What string
}

// hold is a time in which one had a shard.
type hold struct {
	by    string
	shard int
	// from is when its holder first knew of it, until when it was given or taken away, zero if never.
	from, until time.Time
}

// Breaches lists what contradicts that each key is worked on by one at any time: writes to one key by two at the same time, and
// writes that lie not wholly within a time in which their author held the shard of the key. Such a time begins with the answer to
// the claim and ends where the next claim by whoever begins that gives the shard to another or frees it, and no later than the
// lease duration after the last claim that the holder wrote itself: from then on others may take what it holds.
// It returns nothing if there is none.
func Breaches(claims []Claim, writes []Write, duration time.Duration) []string {
	holds, beats := holdsOf(claims), beatsOf(claims)
	var breaches []string
	for _, w := range writes {
		if why := w.outside(holds, beats, duration); why != "" {
			breaches = append(breaches, fmt.Sprintf("%s: %s wrote %s at %s: %s", w.Key, w.By, w.What, clockOf(w.Began), why))
		}
	}
	return append(breaches, overlaps(writes)...)
}

// holdsOf makes times of versions.
func holdsOf(claims []Claim) []hold {
	var holds []hold
	open := map[int]int{}
	for _, c := range claims {
		for shard, i := range maps.Clone(open) {
			if c.Owners[shard] != holds[i].by {
				holds[i].until = c.Began
				delete(open, shard)
			}
		}
		for _, shard := range slices.Sorted(maps.Keys(c.Owners)) {
			if _, held := open[shard]; !held {
				open[shard] = len(holds)
				holds = append(holds, hold{by: c.Owners[shard], shard: shard, from: c.Answered})
			}
		}
	}
	return holds
}

// beatsOf is when each wrote a claim, in order.
func beatsOf(claims []Claim) map[string][]time.Time {
	beats := map[string][]time.Time{}
	for _, c := range claims {
		beats[c.By] = append(beats[c.By], c.Began)
	}
	return beats
}

// outside says why a write lies in no time in which its author held the shard, empty if it lies in one.
func (w Write) outside(holds []hold, beats map[string][]time.Time, duration time.Duration) string {
	why := fmt.Sprintf("it never held shard %d before", w.Shard)
	for _, h := range holds {
		if h.by != w.By || h.shard != w.Shard || w.Began.Before(h.from) {
			continue
		}
		if !h.until.IsZero() && w.Ended.After(h.until) {
			why = fmt.Sprintf("it held shard %d from %s to %s, and the write ended at %s", w.Shard, clockOf(h.from), clockOf(h.until), clockOf(w.Ended))
			continue
		}
		if last := lastBefore(beats[w.By], w.Ended); w.Ended.Sub(last) > duration {
			return fmt.Sprintf("it renewed its lease last at %s, more than %s before the write ended", clockOf(last), duration)
		}
		return ""
	}
	return why
}

func lastBefore(times []time.Time, t time.Time) (last time.Time) {
	for _, at := range times {
		if !at.After(t) {
			last = at
		}
	}
	return last
}

// overlaps lists the writes that began while another's to the same key was not done.
func overlaps(writes []Write) (found []string) {
	sorted := slices.SortedStableFunc(slices.Values(writes), func(a, b Write) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), a.Began.Compare(b.Began))
	})
	for i, w := range sorted {
		for _, later := range sorted[i+1:] {
			if later.Key != w.Key || !later.Began.Before(w.Ended) {
				break
			}
			if later.By != w.By {
				found = append(found, fmt.Sprintf("%s: %s wrote %s at %s, while %s wrote %s until %s",
					w.Key, later.By, later.What, clockOf(later.Began), w.By, w.What, clockOf(w.Ended)))
			}
		}
	}
	return found
}

func clockOf(t time.Time) string { return t.UTC().Format("15:04:05.000000") }
