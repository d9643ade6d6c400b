package influxdb

import (
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/conformance"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// table is an answer in annotated CSV, https://docs.influxdata.com/influxdb/v2/reference/syntax/annotated-csv/.
func table(datatype string, values ...string) string {
	text := "#datatype,string,long," + datatype + "\r\n#group,false,false,false\r\n#default,_result,,\r\n,result,table,_value\r\n"
	for _, value := range values {
		text += ",,0," + value + "\r\n"
	}
	return text + "\r\n"
}

func backend() *conformance.Backend {
	return &conformance.Backend{
		Type: Type, Name: "InfluxDB", Query: `from(bucket: "app") |> range(start: -1m) |> mean()`, Optional: true,
		New:         func(t *outbound.Transports, _ clock.Clock) provider.Factory { return New(t) },
		Credentials: map[string]string{"token": "influx-secret", "org": "team-a"}, Public: []string{"org"},
		Value: func(json string) string { return table("double", strings.TrimPrefix(json, "null")) },
		Empty: map[string]string{"no records": table("double"), "no text": "", "NaN": table("double", "NaN"), "infinity": table("double", "+Inf")},
		Answers: map[string]conformance.Answer{
			"broken JSON":            {Body: "#datatype,string,long,double\r\n,result,tab", Says: "not understood"},
			"empty object":           {Body: "{}", Is: provider.ErrNoValues},
			"whole number":           {Body: table("long", "7"), Value: 7},
			"unsigned number":        {Body: table("unsignedLong", "7"), Value: 7},
			"text":                   {Body: table("string", "many"), Is: provider.ErrInvalidQuery, Says: "toFloat()"},
			"several records":        {Body: table("double", "1", "2"), Value: 1},
			"number that is none":    {Body: table("double", "many"), Says: "not understood"},
			"an error in the answer": {Body: "#datatype,string,string\r\n#group,true,true\r\n#default,,\r\n,error,reference\r\n,Failed to parse query,897\r\n", Says: "Failed to parse query"},
		},
	}
}

func TestConformance(t *testing.T) { conformance.Run(t, backend()) }

func TestRequest(t *testing.T) {
	b := backend()
	server := conformance.Serve(t, conformance.Always(200, b.Value("1")))
	p := b.Provider(t, b.Config(server.URL+"/influx"), &conformance.Clock{})
	if _, err := p.Query(t.Context(), b.Query); err != nil {
		t.Fatal(err)
	}
	if err := p.Online(t.Context()); err != nil {
		t.Fatal(err)
	}
	requests, bodies := server.Requests()
	r := requests[0]
	if r.Method != "POST" || r.URL.Path != "/influx/api/v2/query" || r.URL.Query().Get("org") != "team-a" || r.Header.Get("Authorization") != "Token influx-secret" {
		t.Errorf("got %s %s %v", r.Method, r.URL, r.Header)
	}
	if !strings.Contains(bodies[0], `bucket: \"app\"`) || !strings.Contains(bodies[1], `bucket: \"default\"`) {
		t.Errorf("bodies %s", bodies)
	}
	if timeout := p.(provider.Patient).Timeout(); timeout != 15*time.Second {
		t.Errorf("timeout %s", timeout)
	}
}

func TestInvalidQuery(t *testing.T) {
	b := backend()
	server := conformance.Serve(t, conformance.Always(400, `{"code":"invalid","message":"compilation failed: error at @1:1-1:5"}`))
	_, err := b.Provider(t, b.Config(server.URL), &conformance.Clock{}).Query(t.Context(), "from(")
	conformance.Expect(t, conformance.Answer{Is: provider.ErrInvalidQuery, Says: "compilation failed"}, 0, err)
}
