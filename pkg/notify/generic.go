package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// HeaderSignature is sha256= and the HMAC of the body with the key of the receiver, in hexadecimal.
const HeaderSignature = "X-Signature"

// Generic is what receivers of type webhook get. Fields may be added, none is renamed or removed.
type Generic struct {
	// Type is alert.
	Type string `json:"type"`
	// Severity is info, warn or error.
	Severity string `json:"severity"`
	// Canary is what the alert is about.
	Canary GenericCanary `json:"canary"`
	// Message is the text.
	Message string `json:"message"`
	// Fields are details, in the order in which people see them.
	Fields []GenericField `json:"fields"`
	// Key is the same for an alert that is sent again.
	Key string `json:"key"`
	// Time is when the alert was made, by RFC 3339.
	Time time.Time `json:"time"`
}

// GenericCanary names a Canary.
type GenericCanary struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// GenericField is a named value.
type GenericField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func webhook(r Receiver, address *url.URL, a Alert) (message, error) {
	g := Generic{
		Type: "alert", Severity: string(a.Severity), Canary: GenericCanary{Name: a.Name, Namespace: a.Namespace}, Message: a.Message,
		Fields: []GenericField{}, Key: a.Key, Time: a.Time.UTC(),
	}
	for _, f := range a.Fields {
		g.Fields = append(g.Fields, GenericField(f))
	}
	m := message{address: address, body: g}
	if r.Token != "" {
		m.sign = func(header http.Header, body []byte) {
			mac := hmac.New(sha256.New, []byte(r.Token))
			mac.Write(body)
			header.Set(HeaderSignature, "sha256="+hex.EncodeToString(mac.Sum(nil)))
		}
	}
	return m, nil
}

// alertmanager posts to the API v2, https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml. Alerts about one Canary
// with one message are one alert there, which ends by itself.
func alertmanager(r Receiver, address *url.URL, a Alert) (message, error) {
	const path = "api/v2/alerts"
	if !strings.HasSuffix(address.Path, "/"+path) {
		address = address.JoinPath(path)
	}
	annotations := map[string]string{"summary": a.Message}
	for _, f := range a.Fields {
		annotations[labelName(f.Name)] = f.Value
	}
	m := message{address: address, body: []any{object{
		"labels": map[string]string{
			"alertname": "FlaggerCanary", "severity": string(a.Severity), "namespace": a.Namespace, "canary": a.Name, "message": a.Message,
		},
		"annotations": annotations,
		"startsAt":    a.Time.UTC().Format(time.RFC3339),
	}}}
	if r.Token != "" {
		m.sign = func(header http.Header, _ []byte) { header.Set("Authorization", "Bearer "+r.Token) }
	}
	return m, nil
}

// labelName makes the name of a field one of a label.
func labelName(name string) string { return strings.ReplaceAll(strings.ToLower(name), " ", "_") }
