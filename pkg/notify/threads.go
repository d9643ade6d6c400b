package notify

import (
	"encoding/json"
	"strings"

	"k8s.io/utils/lru"
)

// maxThreads is how many threads are remembered: those of the rollouts that were told of last.
const maxThreads = 1000

// Threads remembers under which message of a chat room each rollout goes on. It is kept in memory: after a restart of the operator the
// next alert of a rollout begins another thread.
type Threads struct {
	known *lru.Cache
}

// NewThreads remembers nothing yet.
func NewThreads() *Threads { return &Threads{known: lru.New(maxThreads)} }

// thread is the conversation of a rollout in a room.
type thread struct {
	known *lru.Cache
	key   string
}

// of is the thread of an alert in the room of a receiver. Only a bot is answered with what a message is called.
func (t *Threads) of(r Receiver, a Alert) thread {
	if t == nil || r.Type != slackType || r.Token == "" || a.Rollout == "" {
		return thread{}
	}
	return thread{t.known, strings.Join([]string{r.Address, r.Channel, a.Source(), a.Rollout}, "\n")}
}

// root is the message that the thread hangs on, empty for the first one of a rollout.
func (t thread) root() string {
	if t.known == nil {
		return ""
	}
	root, _ := t.known.Get(t.key)
	text, _ := root.(string)
	return text
}

// begin takes the message that was answered for the root.
func (t thread) begin(answer []byte) {
	var posted struct {
		TS string `json:"ts"`
	}
	if t.known != nil && json.Unmarshal(answer, &posted) == nil && posted.TS != "" {
		t.known.Add(t.key, posted.TS)
	}
}

// forget ends a thread whose root is gone.
func (t thread) forget() {
	if t.known != nil {
		t.known.Remove(t.key)
	}
}
