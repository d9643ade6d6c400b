package objects

import (
	"bytes"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

// negotiated is the serializer of a dynamic client with another way to decode JSON.
type negotiated struct {
	runtime.NegotiatedSerializer
	infos []runtime.SerializerInfo
}

func (n negotiated) SupportedMediaTypes() []runtime.SerializerInfo { return n.infos }

func faster(standard runtime.NegotiatedSerializer) runtime.NegotiatedSerializer {
	infos := slices.Clone(standard.SupportedMediaTypes())
	for i, info := range infos {
		if info.MediaType != runtime.ContentTypeJSON {
			continue
		}
		infos[i].Serializer = newSerializer(info.Serializer)
		stream := *info.StreamSerializer
		stream.Serializer, stream.Framer = events{stream.Serializer}, frames{stream.Framer}
		infos[i].StreamSerializer = &stream
	}
	return negotiated{standard, infos}
}

// serializer decodes objects and lists. It is safe for concurrent use.
type serializer struct {
	runtime.Serializer
	// typed are the kinds that the dynamic client has types for, above all Status.
	typed   map[string]bool
	decoder *Decoder
	// buffers are for what is encoded.
	buffers *sync.Pool
}

func newSerializer(standard runtime.Serializer) serializer {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	typed := map[string]bool{}
	for kind := range scheme.AllKnownTypes() {
		typed[kind.Kind] = true
	}
	return serializer{standard, typed, NewDecoder(), NewBuffers()}
}

// Decode implements runtime.Decoder. The object of an event comes without an object to decode into.
func (s serializer) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	if defaults == nil {
		if obj, kind, ok := s.decode(data, into); ok {
			return obj, kind, nil
		}
	}
	return s.Serializer.Decode(data, defaults, into)
}

// decode changes nothing when it is not ok.
func (s serializer) decode(data []byte, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, bool) {
	switch into := into.(type) {
	case nil:
		fields, kind, ok := s.read(data, inObject)
		if !ok || kind.Version == "" || s.typed[kind.Kind] {
			return nil, nil, false
		}
		return &unstructured.Unstructured{Object: fields}, kind, true
	case *unstructured.Unstructured:
		fields, kind, ok := s.read(data, inObject)
		if !ok {
			return nil, nil, false
		}
		into.Object = fields
		return into, kind, true
	case *unstructured.UnstructuredList:
		fields, kind, ok := s.read(data, inList)
		// A list that has fields keeps those that the answer does not have.
		if !ok || into.Object != nil || !fill(into, fields) {
			return nil, nil, false
		}
		return into, kind, true
	default:
		return nil, nil, false
	}
}

// read is ok for an object with a kind.
func (s serializer) read(data []byte, where place) (map[string]any, *schema.GroupVersionKind, bool) {
	fields, ok := s.decoder.read(data, where)
	if !ok {
		return nil, nil, false
	}
	name, _ := fields["kind"].(string)
	apiVersion, isText := fields["apiVersion"].(string)
	if _, found := fields["apiVersion"]; name == "" || found && !isText {
		return nil, nil, false
	}
	group, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil, nil, false
	}
	kind := group.WithKind(name)
	return fields, &kind, true
}

// fill makes a list of the fields of one. Where the type is that of the list, the API server does not repeat it for each item.
func fill(list *unstructured.UnstructuredList, fields map[string]any) bool {
	// Without items it is an empty list.
	values, ok := fields["items"].([]any)
	if !ok && fields["items"] != nil {
		return false
	}
	whole := unstructured.UnstructuredList{Object: fields}
	apiVersion, kind := whole.GetAPIVersion(), whole.GetKind()
	items := make([]unstructured.Unstructured, len(values))
	for i, value := range values {
		if items[i].Object, ok = value.(map[string]any); !ok {
			return false
		}
		if items[i].GetKind() == "" && items[i].GetAPIVersion() == "" {
			items[i].SetKind(strings.TrimSuffix(kind, "List"))
			items[i].SetAPIVersion(apiVersion)
		}
	}
	delete(fields, "items")
	list.Object, list.Items = fields, items
	return true
}

// events decodes events of watches, and leaves the objects in them as they are.
type events struct{ runtime.Serializer }

// Decode implements runtime.Decoder. The object of the event is a part of data, where the standard serializer copies it: the decoder
// of a watch decodes it before it reads the next one.
func (e events) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	if event, ok := into.(*metav1.WatchEvent); ok && defaults == nil {
		if is, object, ok := cutEvent(data); ok {
			event.Type, event.Object.Raw = is, object
			kind := schema.GroupVersionKind{Version: "v1", Kind: "WatchEvent"}
			return event, &kind, nil
		}
	}
	return e.Serializer.Decode(data, defaults, into)
}

// cutEvent cuts an event as every API server writes it: {"type":"ADDED","object":{...}}.
func cutEvent(data []byte) (string, []byte, bool) {
	rest, ok := bytes.CutPrefix(data, []byte(`{"type":"`))
	is, rest, found := bytes.Cut(rest, []byte(`","object":`))
	if !ok || !found {
		return "", nil, false
	}
	var b brackets
	end := b.end(rest)
	if end < 0 || rest[0] != '{' || !bytes.Equal(bytes.TrimSpace(rest[end:]), []byte("}")) {
		return "", nil, false
	}
	for _, known := range []watch.EventType{watch.Modified, watch.Added, watch.Deleted, watch.Bookmark, watch.Error} {
		if string(is) == string(known) {
			return string(known), rest[:end], true
		}
	}
	return "", nil, false
}
