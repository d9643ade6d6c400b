package cache

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/router"
)

// Reads is what one pass over a Canary looks at. A change of any of it wakes the Canary.
type Reads struct {
	index   *Index
	key     string
	touched map[ObjectKey]Version
}

// usualReads is how many objects most passes look at: the workloads, three Services, the route, and some configs.
const usualReads = 16

// Reads begins a pass over a Canary.
func (x *Index) Reads(key string) *Reads {
	return &Reads{index: x, key: key, touched: make(map[ObjectKey]Version, usualReads)}
}

// Keep ends a pass that looked at all it wanted to: what earlier ones looked at and this one did not wakes the Canary no more.
func (r *Reads) Keep() { r.index.keep(r.key, r.touched) }

// Of returns a reader of a cluster that notes what is read.
func (r *Reads) Of(live router.Live) *Reader { return &Reader{live: live, reads: r} }

// Reader is a router.Live for one pass.
type Reader struct {
	live  router.Live
	reads *Reads
}

// Get returns the newest known state of an object, nil if it does not exist.
func (r *Reader) Get(ref router.Ref) (*unstructured.Unstructured, error) {
	o := KeyOfRef(ref)
	before, again := r.reads.touched[o]
	if !again {
		r.reads.index.add(r.reads.key, o)
	}
	u, err := r.live.Get(ref)
	switch now := VersionOf(u); {
	case err != nil || again && before != now:
		// What has changed within the pass, it has decided on both versions of.
		r.Touch(ref)
	case !again:
		r.reads.touched[o] = now
		r.reads.index.see(r.reads.key, o, now)
	}
	return u, err
}

// Touch notes that the pass depends on an object that it reads by other means. Every event about it wakes the Canary.
func (r *Reader) Touch(ref router.Ref) {
	o := KeyOfRef(ref)
	r.reads.touched[o] = Version{}
	r.reads.index.add(r.reads.key, o)
}
