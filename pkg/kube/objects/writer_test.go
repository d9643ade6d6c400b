package objects

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/dynamic"
)

func fieldsOf(t testing.TB, data string) map[string]any {
	t.Helper()
	var fields map[string]any
	if err := utiljson.Unmarshal([]byte(data), &fields); err != nil {
		t.Fatal(err)
	}
	return fields
}

// wantSameMeaning compares what is written with what client-go would have written, by what a server makes of both.
func wantSameMeaning(t *testing.T, fields map[string]any) {
	t.Helper()
	got, err := Marshal(fields)
	want, wantErr := json.Marshal(fields)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("fails with %v, and encoding/json with %v", err, wantErr)
	}
	if err != nil {
		return
	}
	if !reflect.DeepEqual(fieldsOf(t, string(got)), fieldsOf(t, string(want))) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWhatIsWrittenMeansWhatClientGoWrites(t *testing.T) {
	for _, kind := range []string{"deployment", "canary"} {
		wantSameMeaning(t, fieldsOf(t, stored(t, kind)))
	}
	for name, value := range map[string]any{
		"numbers": []any{int64(0), int64(-1), int64(math.MaxInt64), int64(math.MinInt64), 0.0, 1.5, -1e300, 1e-7, 1e21, 100.0},
		"texts":   []any{"", "a", `"`, `\`, "\n\t\x00\x1f\x7f", "ä€😀\u2028", "\xff", "a\xffb\xfe\xfdc", "<&>"},
		"empty":   []any{nil, map[string]any{}, []any{}, map[string]any(nil), []any(nil), true, false},
		"names":   map[string]any{`"\`: "x", "\xff": "y", "": map[string]any{"b": int64(1), "a": int64(2)}},
		"other":   map[string]any{"of Go": 7, "small": int32(7), "list": []string{"a"}},
		"endless": math.Inf(1),
	} {
		t.Run(name, func(t *testing.T) { wantSameMeaning(t, map[string]any{"a": value}) })
	}
}

// wantSameAgain expects that what is written exactly is decoded to the same, and goes behind what is there.
func wantSameAgain(t *testing.T, fields map[string]any) {
	t.Helper()
	data, err := AppendExact([]byte("before"), fields)
	text, ok := bytes.CutPrefix(data, []byte("before"))
	if err != nil || !ok {
		t.Fatalf("got %s, %v", data, err)
	}
	got, err := NewDecoder().Unmarshal(text)
	// As text, for 0 and -0 are equal.
	if err != nil || !reflect.DeepEqual(got, fields) || fmt.Sprint(got) != fmt.Sprint(fields) {
		t.Errorf("%v became %v, %v", fields, got, err)
	}
}

func TestWhatIsWrittenExactlyIsTheSameAgain(t *testing.T) {
	for _, kind := range []string{"deployment", "canary"} {
		wantSameAgain(t, fieldsOf(t, stored(t, kind)))
	}
	wantSameAgain(t, map[string]any{"a": []any{
		int64(0), int64(-1), int64(math.MaxInt64), int64(math.MinInt64), 0.0, math.Copysign(0, -1), 1.0, -3.0, 1.5, 9223372036854775808.0, 1e-7, 1e21, -1e300,
		5e-324, math.MaxFloat64, nil, true, false, "", "1", map[string]any{}, []any{}, []any{[]any{[]any{}}, map[string]any{"": nil}},
	}})
	if got, err := AppendExact([]byte("before"), map[string]any{"a": []string{"b"}}); err != nil || string(got) != `before{"a":["b"]}` {
		t.Errorf("got %s, %v of what no decoder makes", got, err)
	}
}

// What is said of an object that can't be decoded, which is the first such field, must not change from time to time.
func TestFieldsAreWrittenInOrder(t *testing.T) {
	fields := map[string]any{}
	for _, name := range "hgfedcba" {
		fields[string(name)] = int64(1)
	}
	for range 10 {
		if got, err := Marshal(fields); err != nil || string(got) != `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1}` {
			t.Fatalf("got %s, %v", got, err)
		}
	}
}

func TestBodiesOfWritesMeanThoseOfClientGo(t *testing.T) {
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"kind":"Pod","apiVersion":"v1"}`)
	}))
	defer server.Close()
	standard, own := clients(t, server.URL)
	for _, object := range []string{stored(t, "deployment"), stored(t, "canary"), `{"metadata":{"name":"x"}}`} {
		var bodies []map[string]any
		for _, client := range []dynamic.Interface{standard, own} {
			u := &unstructured.Unstructured{Object: fieldsOf(t, object)}
			pods := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace("test")
			if _, err := pods.Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, fieldsOf(t, string(body)))
		}
		if !reflect.DeepEqual(bodies[0], bodies[1]) {
			t.Errorf("sent %v, and client-go sends %v", bodies[1], bodies[0])
		}
	}
}

func FuzzWrite(f *testing.F) {
	f.Add(stored(f, "canary"))
	f.Add(`{"a":"\u0000\"\\\ud800ä","b":[1,-0,1e300,0.1,{"":null}]}`)
	f.Fuzz(func(t *testing.T, data string) {
		var fields map[string]any
		if utiljson.Unmarshal([]byte(data), &fields) != nil || fields == nil {
			return
		}
		wantSameMeaning(t, fields)
		wantSameAgain(t, fields)
		if again := fieldsOf(t, data); !Equal(fields, again) {
			t.Errorf("%s is not equal to itself", data)
		}
	})
}

func TestEqual(t *testing.T) {
	values := []any{
		nil, true, false, int64(0), int64(1), 0.0, 1.0, "", "1", []any{}, []any(nil), []any{nil}, []any{int64(1), "a"}, []any{"a", int64(1)},
		map[string]any{}, map[string]any(nil), map[string]any{"a": nil}, map[string]any{"b": nil}, map[string]any{"a": map[string]any{"b": []any{1.0}}},
		map[string]any{"a": map[string]any{"b": []any{2.0}}}, map[string]any{"a": nil, "b": nil},
	}
	for i, a := range values {
		for j, b := range values {
			if Equal(a, b) != (i == j) {
				t.Errorf("Equal(%#v, %#v) is %v", a, b, Equal(a, b))
			}
		}
	}
	if Equal(map[string]any{"a": 1}, map[string]any{"a": 1}) {
		t.Error("numbers that no decoder makes are equal")
	}
}
