package e2e

import (
	"sync"
	"time"
)

// awaited is a state that one waits for to become as wanted. Its lock guards it.
type awaited struct {
	sync.Mutex
	changed chan struct{}
}

// change changes the state, and lets all look who wait.
func (w *awaited) change(do func()) {
	w.Lock()
	defer w.Unlock()
	do()
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// until waits until the state is as wanted, which is asked under the lock, and reports whether that came about.
func (w *awaited) until(wanted func() bool) bool {
	ended := time.After(patience)
	for {
		done, changed := w.look(wanted)
		if done {
			return true
		}
		select {
		case <-changed:
		case <-ended:
			return false
		}
	}
}

func (w *awaited) look(wanted func() bool) (done bool, changed <-chan struct{}) {
	w.Lock()
	defer w.Unlock()
	if wanted() {
		return true, nil
	}
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return false, w.changed
}
