package controller

import (
	"strings"
	"sync"
	"time"
	"unicode"
)

const (
	// rewording is the least time between two texts about the same thing, so that one that is different at each try is no write of
	// the status and no event at each try.
	rewording = time.Minute
	// renumbering is that between two texts that differ in numbers alone: the port of a client, the number of a request, a time.
	renumbering = 10 * time.Minute
)

// What texts are about. Problems are told apart by their reasons.
const (
	aboutProblem   = "problem/"
	aboutAction    = "action"
	aboutProviders = "providers"
	aboutStatus    = "status"
)

// wordings are the errors that one Canary was told of, by what they are about. They are lost with the process, at the price of
// telling once more.
type wordings struct {
	mu   sync.Mutex
	last map[string]wording
	// generation is that of the Canary: whoever edits it sees at once what became of that.
	generation int64
}

type wording struct {
	text string
	at   time.Time
	// held is when another text, which was held back, may be told, zero if there is none.
	held time.Time
}

// of returns the text to tell: the given one, or the last one about the same thing if that was told a moment ago.
func (w *wordings) of(about, text string, generation int64, now time.Time) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil || w.generation != generation {
		w.last, w.generation = map[string]wording{}, generation
	}
	if last, ok := w.last[about]; ok {
		// A clock that is set back keeps nothing from being told.
		since, pause := now.Sub(last.at), rewording
		if skeleton(last.text) == skeleton(text) {
			pause = renumbering
		}
		last.held = time.Time{}
		if last.text != text && since >= 0 && since < pause {
			last.held = last.at.Add(pause)
		}
		if last.text == text || !last.held.IsZero() {
			w.last[about] = last
			return last.text
		}
	}
	w.last[about] = wording{text: text, at: now}
	return text
}

// due is when the next text may be told that was held back, zero if there is none. Nothing else need bring a pass then.
func (w *wordings) due(now time.Time) (first time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, last := range w.last {
		if last.held.After(now) {
			first = until(first, last.held)
		}
	}
	return first
}

// over notes that of all that is meant by a prefix there is only one thing to tell, or nothing: the next text is news.
func (w *wordings) over(prefix, but string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for about := range w.last {
		if about != but && strings.HasPrefix(about, prefix) {
			delete(w.last, about)
		}
	}
}

// skeleton is a text without the words that have a digit.
func skeleton(text string) string {
	words := strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	var kept []string
	for _, word := range words {
		if !strings.ContainsFunc(word, unicode.IsDigit) {
			kept = append(kept, word)
		}
	}
	return strings.Join(kept, " ")
}
