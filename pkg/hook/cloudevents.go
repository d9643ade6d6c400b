package hook

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Format is the form of the calls of webhooks of type event.
type Format string

// The formats. CloudEvents are those of version 1.0, https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md.
const (
	// FormatFlagger is the payload that all webhooks have.
	FormatFlagger Format = "flagger"
	// FormatCloudEvents is the structured mode: a JSON object of attributes, with the payload as data.
	FormatCloudEvents Format = "cloudevents"
	// FormatCloudEventsBinary is the binary mode: the payload, with the attributes in headers.
	FormatCloudEventsBinary Format = "cloudevents-binary"
)

// ParseFormat reads the flag -event-webhook-format.
func ParseFormat(text string) (Format, error) {
	switch f := Format(text); f {
	case FormatFlagger, FormatCloudEvents, FormatCloudEventsBinary:
		return f, nil
	default:
		return "", fmt.Errorf("format %q is unknown: set it to %s, %s or %s", text, FormatFlagger, FormatCloudEvents, FormatCloudEventsBinary)
	}
}

// cloudEventType is the type of all events. A form of the payload that receivers of this one would not understand gets another.
const cloudEventType = "app.flagger.canary.event.v1"

// cloudEvent is the structured mode. The last two attributes are extensions: brokers filter by attributes and not by what is in data.
type cloudEvent struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	Time            string          `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	EventType       string          `json:"eventtype,omitempty"`
	Phase           string          `json:"phase,omitempty"`
	Data            json.RawMessage `json:"data"`
}

// newCloudEvent wraps a payload. The id is the same when the event is told again.
func newCloudEvent(p Payload, data []byte, id string) *cloudEvent {
	return &cloudEvent{
		SpecVersion: "1.0",
		ID:          id,
		Source: fmt.Sprintf("/apis/%s/namespaces/%s/canaries/%s", v1beta1.SchemeGroupVersion, url.PathEscape(p.Namespace),
			url.PathEscape(p.Name)),
		Type:            cloudEventType,
		Subject:         p.Name + "." + p.Namespace,
		Time:            p.at.UTC().Format(time.RFC3339Nano),
		DataContentType: contentTypeJSON,
		EventType:       p.Metadata[metadataType],
		Phase:           string(p.Phase),
		Data:            data,
	}
}

// encode is the body of a call in the format, and the headers that it has.
func (f Format) encode(p Payload, data []byte, id string) (body []byte, header http.Header, err error) {
	header = http.Header{"Content-Type": {contentTypeJSON}}
	switch f {
	case FormatCloudEvents:
		header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
		body, err = json.Marshal(newCloudEvent(p, data, id))
		return body, header, err
	case FormatCloudEventsBinary:
		e := newCloudEvent(p, data, id)
		for name, value := range map[string]string{
			"specversion": e.SpecVersion, "id": e.ID, "source": e.Source, "type": e.Type, "subject": e.Subject, "time": e.Time,
			"eventtype": e.EventType, "phase": e.Phase,
		} {
			if value != "" {
				header.Set("Ce-"+name, percentEncoded(value))
			}
		}
	case FormatFlagger:
	}
	return data, header, nil
}

// percentEncoded is how the HTTP binding of CloudEvents puts an attribute in a header (section 3.1.3.2): spaces, quotation marks, the
// percent sign and all that is not printable ASCII become %XX.
func percentEncoded(value string) string {
	var b strings.Builder
	for _, c := range []byte(value) {
		if c <= ' ' || c > '~' || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
