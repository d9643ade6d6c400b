package cache

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/router"
)

// Reads is what one pass over a Canary looks at. A change of any of it wakes the Canary.
type Reads struct {
	index   *Index
	key     string
	touched map[ObjectKey]struct{}
}

// Reads begins a pass over a Canary.
func (x *Index) Reads(key string) *Reads {
	return &Reads{index: x, key: key, touched: map[ObjectKey]struct{}{}}
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
	r.Touch(ref)
	return r.live.Get(ref)
}

// Touch notes that the pass depends on an object that it reads by other means.
func (r *Reader) Touch(ref router.Ref) {
	o := KeyOfRef(ref)
	r.reads.touched[o] = struct{}{}
	r.reads.index.add(r.reads.key, o)
}
