package controller

import (
	"slices"
	"testing"

	"flagger.app/flagger/pkg/router/services"
)

func TestIndexWakesThoseWhoLooked(t *testing.T) {
	x := newIndex()
	apex, other := keyOfRef(services.Ref("test", "podinfo")), keyOfRef(services.Ref("test", "other"))
	x.add("test/b", apex)
	x.add("test/a", apex)
	x.add("test/a", other)
	if got := x.lookup(apex); !slices.Equal(got, []string{"test/a", "test/b"}) {
		t.Fatalf("apex wakes %v", got)
	}
	if got := x.lookupResource(serviceResource); !slices.Equal(got, []string{"test/a", "test/b"}) {
		t.Fatalf("the resource wakes %v", got)
	}

	// The next pass of a did not look at the apex any more.
	x.keep("test/a", map[objectKey]struct{}{other: {}})
	if got := x.lookup(apex); !slices.Equal(got, []string{"test/b"}) {
		t.Fatalf("apex wakes %v", got)
	}
	x.forget("test/a")
	x.forget("test/b")
	if len(x.keys) != 0 || len(x.objects) != 0 {
		t.Fatalf("Canaries that are gone are kept: %v %v", x.keys, x.objects)
	}
}
