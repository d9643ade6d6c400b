package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/router"
)

var fought = router.Ref{Kind: "VirtualService", Namespace: "test", Name: "podinfo"}

// opponent plays an hour of one object, second by second. It returns when repairs were written.
type opponent struct {
	all    contentions
	theirs bool
	ours   int
	// opened counts how often the contention became open.
	opened int
}

func (o *opponent) play(from, until int, urgent bool, changes func(second, sinceRepair int) bool) (repairs []int) {
	last := from
	for s := from; s < until; s++ {
		now := time.Unix(int64(1_000_000+s), 0)
		if !o.theirs && changes(s, s-last) {
			o.theirs = true
		}
		if !o.theirs {
			o.all.asWanted(fought, now)
			continue
		}
		o.all.undone(nil, fought, o.ours, [][]string{{"spec", "http"}}, now)
		if q := o.all[fought]; q.open && q.message == "" {
			o.opened++
			q.tell(fought, "argocd")
		}
		if o.all.holds(fought, urgent, now) {
			if wake := o.all.wake(now); !wake.After(now) || wake.Sub(now) > lastPause {
				panic("no time to try again")
			}
			continue
		}
		o.all.repair(fought, now)
		repairs = append(repairs, s)
		o.theirs, last = false, s
		o.ours++
	}
	return repairs
}

func (o *opponent) open() bool { return o.all.problem() != nil }

func newOpponent() *opponent { return &opponent{all: contentions{}, ours: 1} }

func always(int, int) bool { return true }

func TestIncidentB14_PausesGrow(t *testing.T) {
	o := newOpponent()
	repairs := o.play(0, 3600, false, always)
	want := []int{0, 10, 30, 70, 150, 310, 610, 910}
	if len(repairs) > 17 || !slices.Equal(repairs[:len(want)], want) {
		t.Errorf("%d repairs, the first at %v, want %v", len(repairs), repairs[:len(want)], want)
	}
	if o.opened != 1 || !o.open() {
		t.Errorf("the contention was opened %d times, and is open: %t", o.opened, o.open())
	}
	never := func(int, int) bool { return false }
	o.play(3600, 3600+601, false, never)
	if o.open() {
		t.Error("the contention goes on although the other one has stopped")
	}
	o.play(4201, 4201+301, false, never)
	if len(o.all) > 0 {
		t.Errorf("%+v is remembered", o.all)
	}
}

func TestIncidentB14_UrgentRepairsAreBounded(t *testing.T) {
	o := newOpponent()
	if repairs := o.play(0, 60, true, always); !slices.Equal(repairs, []int{0, 10, 20, 30, 40, 50}) {
		t.Errorf("repairs at %v", repairs)
	}
	// One who is slower than that is repaired at once, however long it goes on.
	o = newOpponent()
	every := func(s, _ int) bool { return s%15 == 0 }
	if repairs := o.play(0, 150, true, every); len(repairs) != 10 || repairs[9] != 135 {
		t.Errorf("repairs at %v", repairs)
	}
}

func TestIncidentB14_TwoChangesMakeAContention(t *testing.T) {
	at := func(seconds ...int) func(int, int) bool {
		return func(s, _ int) bool { return slices.Contains(seconds, s) }
	}
	for name, c := range map[string]struct {
		changes []int
		opened  int
	}{
		"one":                     {[]int{100}, 0},
		"two far from each other": {[]int{100, 401}, 0},
		"two":                     {[]int{100, 280}, 1},
		"a fight, rest, a fight":  {[]int{100, 110, 500, 1000, 1010}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOpponent()
			repairs := o.play(0, 2000, false, at(c.changes...))
			if o.opened != c.opened || o.open() || len(repairs) < len(c.changes) {
				t.Errorf("opened %d times, open %t, %d repairs of %d changes", o.opened, o.open(), len(repairs), len(c.changes))
			}
		})
	}
	// A GitOps tool that comes back every three minutes is told of once it is known to go on, and not for each time.
	o := newOpponent()
	o.play(0, 7200, false, func(s, _ int) bool { return s%180 == 0 })
	if o.opened < 1 || o.opened > 6 {
		t.Errorf("opened %d times", o.opened)
	}
}

func TestContentionNamesObjectManagerAndField(t *testing.T) {
	q := &contention{fields: [][]string{{"spec", "hosts"}, {"spec", "http"}}}
	q.tell(fought, "argocd")
	for _, want := range []string{"VirtualService podinfo.test", `"argocd"`, "spec.hosts, spec.http", "5m0s"} {
		if !strings.Contains(q.message, want) {
			t.Errorf("%q does not mention %s", q.message, want)
		}
	}
	q.fields = append(q.fields, []string{"a"}, []string{"b"})
	if q.tell(fought, ""); !strings.Contains(q.message, "somebody else") || !strings.Contains(q.message, "spec.hosts, spec.http, a, others") {
		t.Errorf("message %q", q.message)
	}
	q.fields = nil
	if q.tell(fought, ""); !strings.Contains(q.message, "deleting it") {
		t.Errorf("message %q", q.message)
	}
}

func TestWriterOf(t *testing.T) {
	entry := func(manager, time, subresource string, fields map[string]any) any {
		return map[string]any{"manager": manager, "time": time, "subresource": subresource, "fieldsV1": fields}
	}
	in := func(fields ...string) map[string]any {
		inner := map[string]any{}
		for _, f := range fields {
			inner["f:"+f] = map[string]any{}
		}
		return map[string]any{"f:spec": inner}
	}
	u := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"managedFields": []any{
		entry("flagger", "2026-01-02T03:04:06Z", "", in("hosts")),
		entry("old", "2026-01-02T03:04:01Z", "", in("selector", "http")),
		entry("argocd", "2026-01-02T03:04:05Z", "", in("http")),
		entry("istiod", "2026-01-02T03:04:09Z", "status", in("http")),
	}}}}
	for name, c := range map[string]struct {
		path []string
		want string
	}{
		"the last to write the field":   {[]string{"spec", "http"}, "argocd"},
		"a field of a map that is one":  {[]string{"spec", "selector", "app"}, "old"},
		"the object if nobody has it":   {[]string{"spec", "gateways"}, "flagger"},
		"the object for what isn't set": {nil, "flagger"},
	} {
		if got := writerOf(u, [][]string{c.path}); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := writerOf(&unstructured.Unstructured{Object: map[string]any{}}, nil); got != "" {
		t.Errorf("%q wrote what has no managers", got)
	}
}
