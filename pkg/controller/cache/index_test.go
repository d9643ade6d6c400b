package cache

import (
	"errors"
	"fmt"
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
	if len(x.canaries) != 0 || len(x.objects) != 0 {
		t.Fatalf("Canaries that are gone are kept: %v %v", x.canaries, x.objects)
	}
	if got := append(x.Lookup(apex), x.LookupResource(serviceResource)...); len(got) > 0 || x.Len() > 0 {
		t.Fatalf("%v are woken after they are gone", got)
	}
}

// Each of several Canaries has seen a version of its own, and keeps that when others come and go.
func TestIndexOfWhatSeveralLookAt(t *testing.T) {
	x := NewIndex()
	apex, seen := KeyOfRef(services.Ref("test", "podinfo")), VersionOf(service("2"))
	steps := []struct {
		name   string
		do     func()
		looked []string
		news   []string
	}{
		{"one", func() { x.see("test/a", apex, seen) }, []string{"test/a"}, nil},
		{"again", func() { x.see("test/a", apex, seen) }, []string{"test/a"}, nil},
		{"a second one", func() { x.add("test/b", apex) }, []string{"test/a", "test/b"}, []string{"test/b"}},
		{"a third one", func() { x.see("test/c", apex, seen) }, []string{"test/a", "test/b", "test/c"}, []string{"test/b"}},
		{"one of them again", func() { x.see("test/b", apex, seen) }, []string{"test/a", "test/b", "test/c"}, nil},
		{"one about to look", func() { x.add("test/c", apex) }, []string{"test/a", "test/b", "test/c"}, []string{"test/c"}},
		{"one gone", func() { x.Forget("test/a") }, []string{"test/b", "test/c"}, []string{"test/c"}},
		{"gone twice", func() { x.Forget("test/a") }, []string{"test/b", "test/c"}, []string{"test/c"}},
		{"all gone but one", func() { x.Forget("test/b") }, []string{"test/c"}, []string{"test/c"}},
		{"another one", func() { x.see("test/d", apex, seen) }, []string{"test/c", "test/d"}, []string{"test/c"}},
	}
	for _, s := range steps {
		s.do()
		if got := x.Lookup(apex); !slices.Equal(got, s.looked) {
			t.Errorf("%s: looked at by %v, want %v", s.name, got, s.looked)
		}
		if got := x.News(apex, seen); !slices.Equal(got, s.news) {
			t.Errorf("%s: news for %v, want %v", s.name, got, s.news)
		}
	}
	if x.Len() != 2 {
		t.Errorf("%d Canaries look at something", x.Len())
	}
}

// A fleet may read the same ConfigMap. Then a pass must not take longer the more Canaries there are, and the memory is that of one Canary
// each.
func TestIndexOfAFleet(t *testing.T) {
	const fleet, own = 10_000, 12
	x := NewIndex()
	shared := KeyOfRef(services.Ref("test", "shared"))
	pass := func(i int) {
		reads := x.Reads(fmt.Sprintf("test/app-%d", i)).Of(liveFunc(func() (*unstructured.Unstructured, error) { return service("1"), nil }))
		reads.Get(services.Ref("test", "shared"))
		for n := range own {
			reads.Get(services.Ref("test", fmt.Sprintf("app-%d-%d", i, n)))
		}
		reads.reads.Keep()
	}
	bytes := liveBytes(func() any {
		for i := range fleet {
			pass(i)
		}
		return x
	}) / fleet
	t.Logf("a Canary that looks at %d objects takes %d bytes", own+1, bytes)
	if bytes > 5000 {
		t.Errorf("a Canary that looks at %d objects takes %d bytes", own+1, bytes)
	}
	for i := range fleet {
		pass(i)
	}
	if got := len(x.Lookup(shared)); got != fleet {
		t.Errorf("%d look at what all share", got)
	}
	for i := range fleet {
		x.Forget(fmt.Sprintf("test/app-%d", i))
	}
	if len(x.objects) > 0 || x.Len() > 0 {
		t.Errorf("%d objects and %d Canaries are left", len(x.objects), x.Len())
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
			if woke := len(reads.index.News(KeyOfRef(ref), VersionOf(two))) == 1; woke != tt.woke {
				t.Errorf("woken: %t", woke)
			}
			if len(reads.index.News(KeyOfRef(ref), Version{})) != 1 {
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
		if got := x.News(KeyOfRef(ref), VersionOf(one)); len(got) != 1 {
			t.Errorf("an event in the middle of a read wakes %v", got)
		}
		return see()
	})).Get(ref)
}
