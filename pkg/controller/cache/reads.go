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

// Live is a cluster as passes read it.
type Live interface {
	router.Live
	// Version returns the version of what Get returns, for less.
	Version(ref router.Ref) (Version, error)
}

// Of returns a reader of a cluster that notes what is read.
func (r *Reads) Of(live Live) *Reader { return &Reader{live: live, reads: r} }

// Reader is a Live for one pass.
type Reader struct {
	live  Live
	reads *Reads
}

// Get returns the newest known state of an object, nil if it does not exist.
func (r *Reader) Get(ref router.Ref) (u *unstructured.Unstructured, err error) {
	_, err = r.look(ref, func() (Version, error) {
		u, err = r.live.Get(ref)
		return VersionOf(u), err
	})
	return u, err
}

// Version returns the version of what Get returns. The pass depends on the object as if it had read it.
func (r *Reader) Version(ref router.Ref) (Version, error) {
	return r.look(ref, func() (Version, error) { return r.live.Version(ref) })
}

// look notes what is seen of an object.
func (r *Reader) look(ref router.Ref, see func() (Version, error)) (Version, error) {
	o := KeyOfRef(ref)
	before, again := r.reads.touched[o]
	if !again {
		r.reads.index.add(r.reads.key, o)
	}
	now, err := see()
	switch {
	case err != nil || again && before != now:
		// What has changed within the pass, it has decided on both versions of.
		r.Touch(ref)
	case !again:
		r.reads.touched[o] = now
		r.reads.index.see(r.reads.key, o, now)
	}
	return now, err
}

// Touch notes that the pass depends on an object that it reads by other means. Every event about it wakes the Canary.
func (r *Reader) Touch(ref router.Ref) {
	o := KeyOfRef(ref)
	r.reads.touched[o] = Version{}
	r.reads.index.add(r.reads.key, o)
}
