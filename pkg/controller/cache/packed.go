package cache

import (
	"fmt"
	"strings"
	"sync"
	"weak"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"flagger.app/flagger/pkg/kube/objects"
)

// packed is an object as a store keeps it: as JSON. A map of Go takes some 400 bytes however little is in it, an object has dozens, and
// the garbage collector follows each of them. What is asked for all the time is at hand without decoding.
type packed struct {
	packer *packer
	// namespace, name, uid and version are parts of text where they can be.
	namespace, name string
	uid             types.UID
	version         string
	text            string
	// excerpt is what its packer has taken of it.
	excerpt any
	// decoded is the object while somebody has it, and until the next collection of garbage after that. The packer guards it.
	decoded weak.Pointer[unstructured.Unstructured]
}

// packer packs and unpacks the objects of one store.
type packer struct {
	*codec
	// excerpt takes of an object what is to be had without decoding, which may be nil.
	excerpt func(*unstructured.Unstructured) any
	mu      sync.Mutex
}

// codec is what all packers of a cluster have in common: names and texts are the same in all stores.
type codec struct {
	decoder *objects.Decoder
	buffers *sync.Pool
}

func newCodec() *codec {
	return &codec{decoder: objects.NewDecoder(), buffers: objects.NewBuffers()}
}

func (c *codec) newPacker(excerpt func(*unstructured.Unstructured) any) *packer {
	return &packer{codec: c, excerpt: excerpt}
}

// transform packs what is left of an object. It leaves alone what it has packed before, and what is no object.
func (k *packer) transform(item any) (any, error) {
	trimmed, err := trim(item)
	if u, ok := trimmed.(*unstructured.Unstructured); ok && err == nil {
		return k.pack(u)
	}
	return trimmed, err
}

// pack keeps the decoded object at hand for those who are about to hear of it. So nobody may change it any more.
func (k *packer) pack(u *unstructured.Unstructured) (*packed, error) {
	buffer := k.buffers.Get().(*[]byte)
	defer k.buffers.Put(buffer)
	data, err := objects.AppendExact((*buffer)[:0], u.Object)
	if err != nil {
		return nil, fmt.Errorf("encoding %s %s/%s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), err)
	}
	*buffer = data
	text := string(data)
	// An item of a list would keep the whole list.
	alone := newUnpacked(u.Object)
	return &packed{
		packer: k, namespace: within(text, u.GetNamespace()), name: within(text, u.GetName()),
		uid: types.UID(within(text, string(u.GetUID()))), version: within(text, u.GetResourceVersion()),
		text: text, excerpt: k.excerpt(alone), decoded: weak.Make(alone),
	}, nil
}

// within is a part of a text that is equal to a value, so that it takes no memory of its own. It is the value where there is none.
func within(text, value string) string {
	if at := strings.Index(text, value); at >= 0 {
		return text[at : at+len(value)]
	}
	return value
}

// object is the object, nil for nil. All who ask may get the same one, so nobody may change it.
func (p *packed) object() *unstructured.Unstructured {
	if p == nil {
		return nil
	}
	if u := p.present(nil); u != nil {
		return u
	}
	return p.present(p.packer.decode(p.text))
}

// present is the decoded object that is there, else another, which is there from then on.
func (p *packed) present(another *unstructured.Unstructured) *unstructured.Unstructured {
	p.packer.mu.Lock()
	defer p.packer.mu.Unlock()
	if u := p.decoded.Value(); u != nil {
		return u
	}
	if another != nil {
		p.decoded = weak.Make(another)
	}
	return another
}

func (c *codec) decode(text string) *unstructured.Unstructured {
	buffer := c.buffers.Get().(*[]byte)
	defer c.buffers.Put(buffer)
	*buffer = append((*buffer)[:0], text...)
	fields, err := c.decoder.Unmarshal(*buffer)
	if err != nil {
		// An object that looks deleted would be worse.
		panic(fmt.Errorf("decoding a cached object: %w", err))
	}
	return newUnpacked(fields)
}

// unpacked is an object that a weak pointer leads to. The runtime has such objects of one span in a list that it searches for each new
// one: there are a thousand of eight bytes in a span, and few of this size.
type unpacked struct {
	unstructured.Unstructured
	_ [120]byte
}

func newUnpacked(fields map[string]any) *unstructured.Unstructured {
	return &(&unpacked{Unstructured: unstructured.Unstructured{Object: fields}}).Unstructured
}

// at is the version of the object, the empty one for nil.
func (p *packed) at() Version {
	if p == nil {
		return Version{}
	}
	return Version{p.uid, p.version}
}

// unpack is the object of an item of a store, nil if it is anything else.
func unpack(item any) *unstructured.Unstructured {
	p, _ := item.(*packed)
	return p.object()
}

// unpackAll are the objects of items of a store.
func unpackAll(items []any) []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for _, item := range items {
		if u := unpack(item); u != nil {
			all = append(all, u)
		}
	}
	return all
}

var (
	_ metav1.Object  = (*packed)(nil)
	_ runtime.Object = (*packed)(nil)
)
