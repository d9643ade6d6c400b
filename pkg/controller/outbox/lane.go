package outbox

import (
	"context"
	"slices"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// item is one thing that a receiver is told: a notice, or what a webhook answered to it.
type item struct {
	notice v1beta1.Notice
	// key lets the receiver recognize it when it is told again.
	key string
}

// lane is the way to one receiver of a Canary. It is told one thing after the other, in the order of the notices, and nobody else
// waits for it. The lock of the Publisher guards what is in it.
type lane struct {
	// wants is whether the receiver is told of a notice, tell tells it. An error has it told again after a pause; what a receiver
	// makes of it is none.
	wants func(n *v1beta1.Notice) bool
	tell  func(ctx context.Context, l *lane, c *v1beta1.Canary, it item) error

	items []item
	// telling is whether the first item is on its way.
	telling bool
	// refusals is how often in a row the API server refused an event about the receiver. Only who tells it counts them.
	refusals int
}

// push adds an item behind those of the same notice and of earlier ones.
func (l *lane) push(it item) {
	at := len(l.items)
	first := 0
	if l.telling {
		first = 1
	}
	for at > first && l.items[at-1].notice.Sequence > it.notice.Sequence {
		at--
	}
	l.items = slices.Insert(l.items, at, it)
}

// next is what the receiver is to be told now.
func (l *lane) next() (it item, ok bool) {
	if len(l.items) == 0 {
		return item{}, false
	}
	l.telling = true
	return l.items[0], true
}

// end takes out what the receiver was told, and leaves what it was not.
func (l *lane) end(told bool) {
	l.telling = false
	if told {
		l.items = slices.Delete(l.items, 0, 1)
	}
}

// earliest is the lowest number of a notice that the receiver has not been told completely, or the one given if that is lower.
func (l *lane) earliest(otherwise int64) int64 {
	for _, it := range l.items {
		otherwise = min(otherwise, it.notice.Sequence)
	}
	return otherwise
}
