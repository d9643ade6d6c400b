package influxdb

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"flagger.app/flagger/pkg/metrics/conformance"
	"flagger.app/flagger/pkg/metrics/provider"
)

// post writes to a server of version 1.8, which has the API of version 2 for queries alone.
func post(t *testing.T, address, contentType, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatalf("%s: %s", address, resp.Status)
	}
}

// The server is InfluxDB itself, which hack/backends/test.sh starts.
func TestRealServer(t *testing.T) {
	address := os.Getenv("INFLUXDB_URL")
	if address == "" {
		t.Skip("make test-backends runs this against InfluxDB")
	}
	for _, database := range []string{"app", "default"} {
		post(t, address+"/query", "application/x-www-form-urlencoded", url.Values{"q": {`CREATE DATABASE "` + database + `"`}}.Encode())
	}
	post(t, address+"/write?db=app", "text/plain", "requests,code=200 value=93\nrequests,code=500 value=7\nversions text=\"6.9.2\"")
	b := backend()
	p := b.Provider(t, b.Config(address), &conformance.Clock{})
	if err := p.Online(t.Context()); err != nil {
		t.Errorf("online: %v", err)
	}
	const from = `from(bucket: "app/autogen") |> range(start: -5m) |> filter(fn: (r) => r._measurement == "requests"`
	for name, tc := range map[string]struct {
		query string
		want  conformance.Answer
	}{
		"a value":        {from + ` and r.code == "500") |> mean()`, conformance.Answer{Value: 7}},
		"of two tables":  {from + `) |> group() |> sum()`, conformance.Answer{Value: 100}},
		"a whole number": {from + `) |> group() |> count()`, conformance.Answer{Value: 2}},
		"no records":     {from + ` and r.code == "404") |> mean()`, conformance.Answer{Is: provider.ErrNoValues}},
		"text":           {`from(bucket: "app/autogen") |> range(start: -5m) |> filter(fn: (r) => r._measurement == "versions") |> last()`, conformance.Answer{Is: provider.ErrInvalidQuery, Says: "toFloat()"}},
		// Version 2 answers this with 400.
		"no Flux":   {`frm(`, conformance.Answer{Says: "expected RPAREN"}},
		"no bucket": {`from(bucket: "gone") |> range(start: -5m)`, conformance.Answer{Says: "no database"}},
	} {
		value, err := p.Query(t.Context(), tc.query)
		if tc.want.Says != "" && (err == nil || errors.Is(err, provider.ErrNoValues)) {
			t.Errorf("%s: got %v, %v", name, value, err)
			continue
		}
		t.Run(name, func(t *testing.T) { conformance.Expect(t, tc.want, value, err) })
	}
}
