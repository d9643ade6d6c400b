package objects

import (
	"hash/maphash"
	"sync"

	"k8s.io/apimachinery/pkg/util/json"
)

// Decoder decodes JSON into what unstructured objects are made of. It is safe for concurrent use.
type Decoder struct {
	// readers are those at rest. A collection of garbage takes them away, with all that they know.
	readers sync.Pool
}

// NewDecoder returns a Decoder.
func NewDecoder() *Decoder {
	seed := maphash.MakeSeed()
	return &Decoder{readers: sync.Pool{New: func() any { return &reader{seed: seed} }}}
}

// Unmarshal decodes a JSON object. It fails as the decoder of unstructured objects does.
func (d *Decoder) Unmarshal(data []byte) (map[string]any, error) {
	if fields, ok := d.read(data, elsewhere); ok {
		return fields, nil
	}
	var fields map[string]any
	err := json.Unmarshal(data, &fields)
	return fields, err
}

func (d *Decoder) read(data []byte, where place) (map[string]any, bool) {
	r := d.readers.Get().(*reader)
	defer d.readers.Put(r)
	return r.read(data, where)
}
