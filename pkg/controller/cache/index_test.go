package cache

import (
	"slices"
	"testing"

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
	x.keep("test/a", map[ObjectKey]struct{}{other: {}})
	if got := x.Lookup(apex); !slices.Equal(got, []string{"test/b"}) {
		t.Fatalf("apex wakes %v", got)
	}
	x.Forget("test/a")
	x.Forget("test/b")
	if len(x.keys) != 0 || len(x.objects) != 0 {
		t.Fatalf("Canaries that are gone are kept: %v %v", x.keys, x.objects)
	}
}
