package hook

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

const eventData = `{"name":"podinfo","namespace":"test","phase":"Progressing","checksum":"758df7c9fc","metadata":{"env":"prod","eventMessage":"Halt","eventType":"Warning","timestamp":"1700000000123"}}`

// callWith calls a webhook of a type with an event, in a format.
func callWith(t *testing.T, format Format, kind v1beta1.HookType, key string) received {
	t.Helper()
	s := serve(t, statuses(200))
	caller := NewCaller(&skipClock{})
	caller.Events = format
	event := EventPayload(payload, "Warning", "Halt", time.UnixMilli(1700000000123))
	if got := caller.Call(t.Context(), v1beta1.CanaryWebhook{Name: "x", URL: s.URL, Type: kind, Metadata: &map[string]string{"env": "prod"}}, event, key); !got.Passed {
		t.Fatalf("got %+v", got)
	}
	return s.requests[0]
}

func TestStructuredCloudEvent(t *testing.T) {
	got := callWith(t, FormatCloudEvents, v1beta1.EventHook, "7d2b/notice/1/events")
	want := `{"specversion":"1.0","id":"7d2b/notice/1/events","source":"/apis/flagger.app/v1beta1/namespaces/test/canaries/podinfo",` +
		`"type":"app.flagger.canary.event.v1","subject":"podinfo.test","time":"2023-11-14T22:13:20.123Z","datacontenttype":"application/json",` +
		`"eventtype":"Warning","phase":"Progressing","data":` + eventData + `}`
	if got.body != want {
		t.Errorf("body %s\nwant %s", got.body, want)
	}
	if kind := got.header.Get("Content-Type"); kind != "application/cloudevents+json; charset=utf-8" {
		t.Errorf("Content-Type %q", kind)
	}
	var attributes map[string]any
	if err := json.Unmarshal([]byte(got.body), &attributes); err != nil {
		t.Fatal(err)
	}
	// The names of attributes are lower-case letters and digits (section 3.1), and these are required (section 3.1.1).
	for name := range attributes {
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			t.Errorf("the name %q is not allowed", name)
		}
	}
	for _, name := range []string{"id", "source", "specversion", "type"} {
		if text, _ := attributes[name].(string); text == "" {
			t.Errorf("attribute %s is %v", name, attributes[name])
		}
	}
}

func TestBinaryCloudEvent(t *testing.T) {
	got := callWith(t, FormatCloudEventsBinary, v1beta1.EventHook, `7d2b/notice/1/my "sink" 100% ü`)
	if got.body != eventData || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("body %s of type %s", got.body, got.header.Get("Content-Type"))
	}
	attributes := map[string]string{}
	for name := range got.header {
		if strings.HasPrefix(name, "Ce-") {
			attributes[name] = got.header.Get(name)
		}
	}
	want := map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": "7d2b/notice/1/my%20%22sink%22%20100%25%20%C3%BC", "Ce-Source": "/apis/flagger.app/v1beta1/namespaces/test/canaries/podinfo",
		"Ce-Type": "app.flagger.canary.event.v1", "Ce-Subject": "podinfo.test", "Ce-Time": "2023-11-14T22:13:20.123Z", "Ce-Eventtype": "Warning", "Ce-Phase": "Progressing",
	}
	if diff := cmp.Diff(want, attributes); diff != "" {
		t.Error(diff)
	}
}

// Without the flag events are what they are in Flagger, and no other webhook ever is anything else.
func TestFormatIsThatOfEventsAlone(t *testing.T) {
	for _, tc := range []struct {
		format Format
		kind   v1beta1.HookType
	}{{"", v1beta1.EventHook}, {FormatFlagger, v1beta1.EventHook}, {FormatCloudEvents, v1beta1.RolloutHook}, {FormatCloudEventsBinary, v1beta1.PostRolloutHook}} {
		got := callWith(t, tc.format, tc.kind, "key")
		header := http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {"key"}}
		for name := range got.header {
			if header[name] == nil && name != "User-Agent" && name != "Content-Length" && name != "Accept-Encoding" {
				t.Errorf("%s to %s: header %s", tc.format, tc.kind, name)
			}
		}
		if got.body != eventData {
			t.Errorf("%s to %s: body %s", tc.format, tc.kind, got.body)
		}
	}
}

func TestParseFormat(t *testing.T) {
	for _, f := range []Format{FormatFlagger, FormatCloudEvents, FormatCloudEventsBinary} {
		if got, err := ParseFormat(string(f)); got != f || err != nil {
			t.Errorf("%s: %s, %v", f, got, err)
		}
	}
	if _, err := ParseFormat("xml"); err == nil || !strings.Contains(err.Error(), "cloudevents-binary") {
		t.Error(err)
	}
}
