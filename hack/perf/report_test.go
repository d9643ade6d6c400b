package main

import (
	"testing"
	"time"

	"flagger.app/flagger/test/audit"
)

// The first write may come before the answer to the change that it is about. A later one is not the first for that.
func TestFirstActions(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(after time.Duration, verb, name string) audit.Call {
		return audit.Call{Verb: verb, RequestReceivedTimestamp: start.Add(after), ObjectRef: &struct{ Resource, Subresource, Name string }{Name: name}}
	}
	asked := change{start, start.Add(time.Second)}
	got := firstActions([]audit.Call{
		at(-time.Second, "update", appName(2)),
		at(500*time.Millisecond, "update", appName(0)),
		at(1500*time.Millisecond, "get", appName(1)),
		at(2*time.Second, "update", appName(2)),
		at(3*time.Second, "patch", appName(1)+"-primary"),
		at(9*time.Second, "patch", appName(0)),
		at(9*time.Second, "patch", appName(3)),
	}, map[string]change{appName(0): asked, appName(1): asked, appName(2): asked})
	if want := (quantiles{Count: 3, P50: 1, P99: 2, Max: 2}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
