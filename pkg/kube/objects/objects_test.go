package objects

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	restwatch "k8s.io/client-go/rest/watch"
	"sigs.k8s.io/yaml"
)

// stored is an object as an API server writes it.
func stored(t testing.TB, kind string) string {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + kind + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		t.Fatal(err)
	}
	return compact.String()
}

const (
	failure  = `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}`
	success  = `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","details":{"name":"podinfo","uid":"1"}}`
	bookmark = `{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"resourceVersion":"12746","creationTimestamp":null,"annotations":{"k8s.io/initial-events-end":"true"}},"spec":{"selector":null},"status":{}}`
	partial  = `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"podinfo","managedFields":[{"manager":"kubectl"}]}}`
)

// clients are that of client-go and ours, of one server.
func clients(t *testing.T, url string) (standard, own dynamic.Interface) {
	t.Helper()
	config := &rest.Config{Host: url, QPS: -1}
	standard, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if own, err = NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	return standard, own
}

// answered gives each client what an API server says, and compares what they make of it.
func answered(t *testing.T, code int, contentType, body string, call func(dynamic.ResourceInterface) (any, error)) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	standard, own := clients(t, server.URL)
	resource := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	want, wantErr := call(standard.Resource(resource).Namespace("test"))
	got, gotErr := call(own.Resource(resource).Namespace("test"))
	if fmt.Sprintf("%T %v", gotErr, gotErr) != fmt.Sprintf("%T %v", wantErr, wantErr) {
		t.Errorf("%.300s:\nfails with %v\nand with client-go with %v", body, gotErr, wantErr)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%.300s: differs from client-go (-) by\n%s", body, diff)
	}
}

func ctx() context.Context { return context.Background() }

func get(r dynamic.ResourceInterface) (any, error) {
	u, err := r.Get(ctx(), "podinfo", metav1.GetOptions{})
	if u != nil {
		unstructured.RemoveNestedField(u.Object, "metadata", "managedFields")
	}
	return u, err
}

func list(r dynamic.ResourceInterface) (any, error) {
	l, err := r.List(ctx(), metav1.ListOptions{})
	if l != nil {
		for i := range l.Items {
			unstructured.RemoveNestedField(l.Items[i].Object, "metadata", "managedFields")
		}
	}
	return l, err
}

// watched has all events until the stream ends.
func watched(r dynamic.ResourceInterface) (any, error) {
	w, err := r.Watch(ctx(), metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var all []watch.Event
	for e := range w.ResultChan() {
		if u, ok := e.Object.(*unstructured.Unstructured); ok {
			unstructured.RemoveNestedField(u.Object, "metadata", "managedFields")
		}
		all = append(all, e)
	}
	return all, nil
}

func TestAnswersAreThoseOfClientGo(t *testing.T) {
	const broken = `{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"podinfo"`
	for _, body := range []string{
		stored(t, "deployment"), stored(t, "canary"), partial, bookmark, success, failure, broken, broken + "}}}", broken + `,"labels":[}}`, "", " ", "null", "[]", "1",
		`{}`, `{"kind":"Deployment"}`, `{"kind":""}`, `{"kind":1,"apiVersion":"v1"}`, `{"kind":"Pod","apiVersion":1}`, `{"kind":"Pod","apiVersion":"a/b/c"}`,
		`{"kind":"Pod","apiVersion":null}`, `{"apiVersion":"apps/v1"}`, `{"kind":"Pod","apiVersion":"v1","n":[1,-0,1.0,1e3,9223372036854775808,-9223372036854775808]}`,
		`{"kind":"Pod","apiVersion":"v1","n":1e999}`, `{"kind":"Pod","apiVersion":"v1","items":[{"a":1}]}`, `{"kind":"Pod","kind":"Job","apiVersion":"v1"}`,
		"\n" + `{ "kind" : "Pod" , "apiVersion" : "v1" , "text" : "\u00e4\ud83d\ude00\ud83d ä` + "\xff" + `" }` + "\n",
	} {
		answered(t, http.StatusOK, "application/json", body, get)
		answered(t, http.StatusOK, "application/json", body, list)
		for _, code := range []int{http.StatusConflict, http.StatusGone, http.StatusInternalServerError} {
			answered(t, code, "application/json", body, get)
			answered(t, code, "application/json", body, watched)
		}
	}
	answered(t, http.StatusBadGateway, "text/html", "<html>no upstream</html>", get)
	answered(t, http.StatusOK, "text/html", "<html>log in first</html>", get)
}

func TestListsAreThoseOfClientGo(t *testing.T) {
	deployment := stored(t, "deployment")
	const head = `{"kind":"DeploymentList","apiVersion":"apps/v1","metadata":{"resourceVersion":"7","continue":"abc","remainingItemCount":3}`
	for _, body := range []string{
		head + `}`, head + `,"items":[]}`, head + `,"items":null}`, head + `,"items":{}}`, head + `,"items":[null]}`, head + `,"items":[1]}`, head + `,"items":[{}]}`,
		head + `,"items":[` + deployment + `,` + stored(t, "canary") + `]}`,
		head + `,"items":[{"metadata":{"name":"podinfo","managedFields":[]}},{"kind":"Job","metadata":{}},{"apiVersion":"v1"}]}`,
		head + `,"items":[` + deployment, head + `,"items":[` + deployment + `}`,
		`{"kind":"Table","apiVersion":"meta.k8s.io/v1","items":[{"kind":1}]}`,
	} {
		answered(t, http.StatusOK, "application/json", body, list)
		answered(t, http.StatusOK, "application/json", body, get)
	}
}

func TestWatchesAreThoseOfClientGo(t *testing.T) {
	event := func(kind, object string) string { return `{"type":"` + kind + `","object":` + object + "}\n" }
	deployment := stored(t, "deployment")
	first := event("ADDED", deployment)
	large := `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"large"},"data":{"a":"` + strings.Repeat(`x\"\\{[`, 20_000) + `"}}`
	var indented bytes.Buffer
	if err := json.Indent(&indented, []byte(first), "", "  "); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{
		"", "\n \n", first, strings.TrimSpace(first) + event("MODIFIED", stored(t, "canary")) + event("DELETED", deployment),
		first + event("BOOKMARK", bookmark) + event("ERROR", failure) + event("ADDED", deployment),
		event("ADDED", large) + event("MODIFIED", large) + first, indented.String() + indented.String(), event("ADDED", partial), event("ADDED", success),
		event("RENAMED", deployment), event("ADDED", "null"), event("ADDED", "1"), event("ADDED", "[]"), event("ADDED", `{"kind":"Pod"}`), event("ADDED", `{"apiVersion":"v1"}`),
		`{"object":` + deployment + `,"type":"ADDED"}`, `{"type":"ADDED","object":` + deployment + `,"more":{}}`,
		`{"type":"ADDED","object":` + deployment + `,"object":` + partial + `}`, `{"type":"ADDED","object":` + deployment + `,"type":"DELETED"}`, `{"type":"ADDED"}`,
		first + first[:len(first)/2], first + first[:len(first)-2],
	} {
		answered(t, http.StatusOK, "application/json", body, watched)
	}
	// What is broken fails in other words.
	for _, body := range []string{
		"<html></html>", first + "]", `{"type":"ADDED","object":}`, first + "null\n", first + `{"type":"ADDED","object":{"kind":"Pod",,}}`, first + event("ADDED", `{"kind":"Pod","apiVersion":"v1"]`),
	} {
		got := eventsOf(t, body)
		if last := got[len(got)-1]; last.Type != watch.Error {
			t.Errorf("%.50s: the last event is %v", body, last)
		}
	}
}

// A proxy cuts a stream where it likes.
func TestWatchIsPutTogether(t *testing.T) {
	var all []string
	for i := range 3 {
		all = append(all, fmt.Sprintf(`{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"%d"},"text":"}\\\"{\\"}}`, i))
	}
	body := strings.Join(all, "\n") + "\n"
	for _, size := range []int{1, 2, 7, len(all[0]), len(all[0]) + 1, len(body)} {
		r := frames{}.NewFrameReader(io.NopCloser(slow{strings.NewReader(body), size}))
		for _, want := range all {
			var got []byte
			for into := make([]byte, 11); ; {
				n, err := r.Read(into)
				got = append(got, into[:n]...)
				if err == nil {
					break
				}
				if !errors.Is(err, io.ErrShortBuffer) {
					t.Fatal(err)
				}
			}
			if string(got) != want {
				t.Errorf("in parts of %d bytes: %s is read as %s", size, want, got)
			}
		}
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("in parts of %d bytes: the end is %v", size, err)
		}
	}
}

// What no cache keeps is not even read.
func TestNothingTellsOfManagedFields(t *testing.T) {
	s := faster(dynamic.ConfigFor(&rest.Config{}).NegotiatedSerializer).SupportedMediaTypes()[0].Serializer
	deployment := stored(t, "deployment")
	seen, err := runtime.Decode(s, []byte(deployment))
	if err != nil {
		t.Fatal(err)
	}
	if u := seen.(*unstructured.Unstructured); u.GetManagedFields() != nil || u.GetUID() == "" {
		t.Errorf("a watch tells of %v", u.Object["metadata"])
	}
	var all unstructured.UnstructuredList
	if err := runtime.DecodeInto(s, []byte(`{"kind":"DeploymentList","apiVersion":"apps/v1","items":[`+deployment+`]}`), &all); err != nil {
		t.Fatal(err)
	}
	if all.Items[0].GetManagedFields() != nil || all.Items[0].GetUID() == "" {
		t.Errorf("a list tells of %v", all.Items[0].Object["metadata"])
	}
	var one unstructured.Unstructured
	if err := runtime.DecodeInto(s, []byte(deployment), &one); err != nil {
		t.Fatal(err)
	}
	if one.GetManagedFields() != nil || one.GetUID() == "" {
		t.Errorf("an answer tells of %v", one.Object["metadata"])
	}
}

// FuzzReader compares with the decoder of client-go. Everything that our manifests and fixtures are made of is a seed.
func FuzzReader(f *testing.F) {
	for _, pattern := range []string{"testdata/*.json", "../../../hack/testbed/demo/*.yaml", "../../../kustomize/*/*.yaml", "../../router/*/testdata/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatal(pattern, err)
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			for doc := range bytes.SplitSeq(raw, []byte("\n---\n")) {
				if converted, err := yaml.YAMLToJSON(doc); err == nil {
					f.Add(converted)
				}
			}
		}
	}
	for _, seed := range []string{
		`{"a":[1,-1,0,-0,1.5,1e2,1E+2,1e-2,01,1.,.5,+1,-,1e,9223372036854775807,9223372036854775808,1e999]}`, `{"a":-0}`, `{"a":-0.0}`, `{"a":1E400}`, `{"a":01}`,
		`{"a":"\"\\\/\b\f\n\r\t\u0000\ud800\udc00\ud800\u0041\udc00\x"}`, `{"a":"\ud83d\ude00\ud83d"}`, "{\"a\":\"\xff\xfe\xe4\"}", "{\"a\xff\":\"\t\"}",
		`{"metadata":{"managedFields":[{"f:a":{},"k:{\"n\":1}":[1,{"a":[]}]}],"a":[[{}]]},"managedFields":{"a":"b"}}`, `{"metadata":{"managedFields":[{]}}`,
		`{"a":1,"a":{"b":1},"a":{"c":2}}`, `{"a":tru}`, `{"a":nul}`, `{"a":true,"b":false,"c":null}`, `{"a":[],"b":{},}`, `{"a":[1,]}`, `{"a" 1}`, `{,}`, `{}{}`, `{} x`, ` {} `, `[{}]`, `"`,
		strings.Repeat(`{"a":`, 600) + `1` + strings.Repeat(`}`, 600),
	} {
		f.Add([]byte(seed))
	}
	r := NewDecoder().readers.New().(*reader)
	f.Fuzz(func(t *testing.T, data []byte) {
		given := bytes.Clone(data)
		got, ok := r.read(data, elsewhere)
		if !bytes.Equal(given, data) {
			t.Fatal("what is read is changed")
		}
		var want map[string]any
		err := utiljson.Unmarshal(data, &want)
		if ok && err != nil {
			t.Fatalf("%q is read, and an error in client-go: %v", data, err)
		}
		if !ok && err == nil && want != nil && !deep(data) {
			t.Fatalf("%q is not read, but is good", data)
		}
		if ok {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%q differs from client-go (-) by\n%s", data, diff)
			}
			if metadata, ok := want["metadata"].(map[string]any); ok {
				delete(metadata, "managedFields")
			}
			if less, ok := r.read(data, inObject); !ok || !cmp.Equal(want, less) {
				t.Fatalf("%q is read as %v without managedFields", data, less)
			}
		}
	})
}

// deep is whether an object may be too deep for the reader.
func deep(data []byte) bool {
	return bytes.Count(data, []byte("{"))+bytes.Count(data, []byte("[")) > deepest
}

func BenchmarkWatch(b *testing.B) {
	info := dynamic.ConfigFor(&rest.Config{}).NegotiatedSerializer
	for _, kind := range []string{"canary", "deployment"} {
		event := `{"type":"MODIFIED","object":` + stored(b, kind) + "}\n"
		for name, s := range map[string]runtime.NegotiatedSerializer{"client-go": info, "own": faster(info)} {
			b.Run(kind+"/"+name, func(b *testing.B) {
				d := decoderOf(s, io.NopCloser(&endless{text: event}))
				b.SetBytes(int64(len(event)))
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := d.Decode(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// decoderOf is how client-go decodes a watch.
func decoderOf(s runtime.NegotiatedSerializer, stream io.ReadCloser) *restwatch.Decoder {
	info := s.SupportedMediaTypes()[0]
	return restwatch.NewDecoder(streaming.NewDecoder(info.StreamSerializer.NewFrameReader(stream), info.StreamSerializer.Serializer), info.Serializer)
}

// eventsOf are the events of a watch until it ends.
func eventsOf(t *testing.T, stream string) []watch.Event {
	t.Helper()
	s := faster(dynamic.ConfigFor(&rest.Config{}).NegotiatedSerializer)
	w := watch.NewStreamWatcher(decoderOf(s, io.NopCloser(strings.NewReader(stream))), apierrors.NewClientErrorReporter(500, "GET", "ClientWatchDecoding"))
	var all []watch.Event
	for e := range w.ResultChan() {
		all = append(all, e)
	}
	return all
}

// slow reads no more than size bytes at a time.
type slow struct {
	io.Reader
	size int
}

func (s slow) Read(into []byte) (int, error) { return s.Reader.Read(into[:min(len(into), s.size)]) }

// endless says the same again and again.
type endless struct {
	text string
	at   int
}

func (e *endless) Read(into []byte) (int, error) {
	n := copy(into, e.text[e.at:])
	e.at = (e.at + n) % len(e.text)
	return n, nil
}
