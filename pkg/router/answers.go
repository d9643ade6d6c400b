package router

import (
	"crypto/sha256"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// answers remembers what the API server made of each write. Webhooks and defaults may change what was sent: an object that
// is still as the server left it needs no further write as long as the same is wanted.
type answers struct {
	mu    sync.Mutex
	byRef map[Ref]answer
	// swept is the number of entries after the last sweep, writes that of all writes.
	swept, writes int
}

type answer struct {
	uid types.UID
	// wanted and stored are digests of our share as sent and as the server returned it.
	wanted, stored [sha256.Size]byte
	// newest is the result of the last patch, outdated the resource versions known to be older. Both are dropped as soon
	// as the informer has seen another version.
	newest   *unstructured.Unstructured
	outdated []string
	// number is which of all writes this was.
	number int
}

func newAnswers() *answers { return &answers{byRef: map[Ref]answer{}} }

// accepts tells whether an object is as the server left it after the same state was sent.
func (a *answers) accepts(ref Ref, uid types.UID, wanted, actual share) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.byRef[ref]
	return ok && known.uid == uid && known.wanted == digest(wanted) && known.stored == digest(actual)
}

// newest returns the result of the last patch if live is a version from before it, else live.
func (a *answers) newest(ref Ref, live *unstructured.Unstructured) *unstructured.Unstructured {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.byRef[ref]
	if !ok || known.newest == nil {
		return live
	}
	if live != nil && live.GetUID() == known.uid && slices.Contains(known.outdated, live.GetResourceVersion()) {
		return known.newest
	}
	known.newest, known.outdated = nil, nil
	a.byRef[ref] = known
	return live
}

// writtenAs is the number of the last write of an object if that was of the same state, else 0.
func (a *answers) writtenAs(ref Ref, wanted share) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.byRef[ref]
	if !ok || known.wanted != digest(wanted) {
		return 0
	}
	return known.number
}

func (a *answers) memory(ref Ref) Memory {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.byRef[ref]
	if !ok {
		return Memory{write: -1}
	}
	return Memory{write: known.number, ahead: known.newest != nil}
}

// withdraw notes that a state is not wanted any more: whoever wants it again later repairs nothing.
func (a *answers) withdraw(ref Ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, ok := a.byRef[ref]; ok {
		known.number = 0
		a.byRef[ref] = known
	}
}

// remember records the answer to a write. Replaced is empty for a creation.
func (a *answers) remember(ref Ref, replaced string, stored *unstructured.Unstructured, wanted, actual share) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.writes++
	entry := answer{uid: stored.GetUID(), wanted: digest(wanted), stored: digest(actual), number: a.writes}
	last, ok := a.byRef[ref]
	ok = ok && last.uid == entry.uid
	if replaced != "" {
		entry.newest = stored
		entry.outdated = []string{replaced}
		if ok && last.newest != nil && last.newest.GetResourceVersion() == replaced {
			entry.outdated = append(last.outdated, replaced)
		}
	}
	a.byRef[ref] = entry
}

// sweepSlack is the least number of entries that may pile up between two sweeps.
const sweepSlack = 64

// sweep forgets objects that are gone, whenever the entries have doubled since the last time.
func (a *answers) sweep(live Live) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.byRef) < 2*a.swept+sweepSlack {
		return
	}
	for ref := range a.byRef {
		if o, err := live.Get(ref); err == nil && o == nil {
			delete(a.byRef, ref)
		}
	}
	a.swept = len(a.byRef)
}
