package cache

import (
	"errors"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
)

func TestIndexWakesThoseWhoLooked(t *testing.T) {
	x := NewIndex()
	apex, other := KeyOfRef(services.Ref("test", "podinfo")), KeyOfRef(services.Ref("test", "other"))
	x.add("test/b", apex)
	x.add("test/a", apex)
	x.add("test/a", other)
	if got := x.Lookup(apex); !slices.Equal(got, []string{"test/a", "test/b"}) {
		t.Fatalf("apex wakes %v", got)
	}
	if got := x.LookupResource(serviceResource); !slices.Equal(got, []string{"test/a", "test/b"}) {
		t.Fatalf("the resource wakes %v", got)
	}

	// The next pass of a did not look at the apex any more.
	x.keep("test/a", map[ObjectKey]Version{other: {}})
	if got := x.Lookup(apex); !slices.Equal(got, []string{"test/b"}) {
		t.Fatalf("apex wakes %v", got)
	}
	x.Forget("test/a")
	x.Forget("test/b")
	if len(x.keys) != 0 || len(x.objects) != 0 {
		t.Fatalf("Canaries that are gone are kept: %v %v", x.keys, x.objects)
	}
}

// liveFunc is a router.Live.
type liveFunc func() (*unstructured.Unstructured, error)

func (f liveFunc) Get(router.Ref) (*unstructured.Unstructured, error) { return f() }

func (f liveFunc) Version(router.Ref) (Version, error) {
	u, err := f()
	return VersionOf(u), err
}

// An event wakes whoever has not decided on what it tells of. Whoever can't be sure of that is woken.
func TestNewsAreForThoseWhoHaveNotSeenThem(t *testing.T) {
	ref := services.Ref("test", "podinfo")
	one, two := service("1"), service("2")
	for name, tt := range map[string]struct {
		pass func(r *Reader, live *[]*unstructured.Unstructured)
		woke bool
	}{
		"read":         {func(r *Reader, _ *[]*unstructured.Unstructured) { r.Get(ref) }, false},
		"version read": {func(r *Reader, _ *[]*unstructured.Unstructured) { r.Version(ref) }, false},
		"version read before": {func(r *Reader, live *[]*unstructured.Unstructured) {
			*live = []*unstructured.Unstructured{one}
			r.Version(ref)
		}, true},
		"version changed within the pass": {func(r *Reader, live *[]*unstructured.Unstructured) {
			*live = []*unstructured.Unstructured{one, two}
			r.Version(ref)
			r.Get(ref)
		}, true},
		"read twice": {func(r *Reader, _ *[]*unstructured.Unstructured) { r.Get(ref); r.Get(ref) }, false},
		"read before": {func(r *Reader, live *[]*unstructured.Unstructured) {
			*live = []*unstructured.Unstructured{one}
			r.Get(ref)
		}, true},
		"read when it was not there": {func(r *Reader, live *[]*unstructured.Unstructured) {
			*live = []*unstructured.Unstructured{nil}
			r.Get(ref)
		}, true},
		"changed within the pass": {func(r *Reader, live *[]*unstructured.Unstructured) {
			*live = []*unstructured.Unstructured{one, two}
			r.Get(ref)
			r.Get(ref)
		}, true},
		"read by other means":      {func(r *Reader, _ *[]*unstructured.Unstructured) { r.Touch(ref) }, true},
		"read, and by other means": {func(r *Reader, _ *[]*unstructured.Unstructured) { r.Get(ref); r.Touch(ref); r.Get(ref) }, true},
		"unreadable":               {func(r *Reader, live *[]*unstructured.Unstructured) { *live = nil; r.Get(ref) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			live := []*unstructured.Unstructured{two}
			reads := NewIndex().Reads("test/a")
			tt.pass(reads.Of(liveFunc(func() (*unstructured.Unstructured, error) {
				if len(live) == 0 {
					return nil, errors.New("not yet")
				}
				u := live[0]
				if len(live) > 1 {
					live = live[1:]
				}
				return u, nil
			})), &live)
			reads.Keep()
			if woke := len(reads.index.News(KeyOfRef(ref), two)) == 1; woke != tt.woke {
				t.Errorf("woken: %t", woke)
			}
			if len(reads.index.News(KeyOfRef(ref), nil)) != 1 {
				t.Error("a deletion wakes nobody")
			}
		})
	}
}

// What the last pass has seen says nothing about the pass that is about to look.
func TestNewsWakeWhoeverIsLooking(t *testing.T) {
	ref, one := services.Ref("test", "podinfo"), service("1")
	x := NewIndex()
	see := func() (*unstructured.Unstructured, error) { return one, nil }
	x.Reads("test/a").Of(liveFunc(see)).Get(ref)
	x.Reads("test/a").Of(liveFunc(func() (*unstructured.Unstructured, error) {
		if got := x.News(KeyOfRef(ref), one); len(got) != 1 {
			t.Errorf("an event in the middle of a read wakes %v", got)
		}
		return see()
	})).Get(ref)
}
