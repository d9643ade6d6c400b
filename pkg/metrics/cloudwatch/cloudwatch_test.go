package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/metrics/conformance"
	"flagger.app/flagger/pkg/metrics/provider"
)

// sample is like that of the documentation of Flagger.
const sample = `[
  {"Id": "e1", "Expression": "m1 / m2", "Label": "ErrorRate"},
  {"Id": "m1", "MetricStat": {"Metric": {"Namespace": "MyCluster", "MetricName": "ErrorCount",
    "Dimensions": [{"Name": "appName", "Value": "podinfo.test"}]}, "Period": 60, "Stat": "Sum", "Unit": "Count"}, "ReturnData": false}
]`

func at(t *testing.T, address string) provider.Config {
	t.Helper()
	// The SDK takes these as users give them.
	t.Setenv("AWS_ENDPOINT_URL_CLOUDWATCH", address)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDSECRET")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "aws-secret")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	return provider.Config{
		Spec:     v1beta1.MetricTemplateProvider{Type: Type, Region: "eu-central-1", Address: "http://ignored"},
		Interval: conformance.Interval.String(),
	}
}

func build(t *testing.T, cfg provider.Config) provider.Provider {
	t.Helper()
	p, err := New(&conformance.Clock{})(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// answer sends what the service sends: CBOR by the protocol smithy.protocols#rpcv2Cbor.
func answer(status int, body any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		text, err := cbor.Marshal(body)
		if err != nil {
			panic(err)
		}
		w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
		w.Header().Set("Content-Type", "application/cbor")
		w.WriteHeader(status)
		_, _ = w.Write(text)
	}
}

func results(values ...any) any {
	list := []any{}
	for _, v := range values {
		list = append(list, map[string]any{"Id": "e1", "StatusCode": "Complete", "Values": v})
	}
	return map[string]any{"MetricDataResults": list}
}

func failure(code, text string) any { return map[string]any{"__type": code, "message": text} }

func TestQuery(t *testing.T) {
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		want    conformance.Answer
	}{
		"a value":         {answer(200, results([]float64{98.5, 1})), conformance.Answer{Value: 98.5}},
		"several results": {answer(200, results([]float64{7}, []float64{8})), conformance.Answer{Value: 7}},
		"no result":       {answer(200, results()), conformance.Answer{Is: provider.ErrNoValues}},
		"no value":        {answer(200, results([]float64{})), conformance.Answer{Is: provider.ErrNoValues}},
		"null":            {answer(200, results(nil)), conformance.Answer{Is: provider.ErrNoValues}},
		"empty object":    {answer(200, map[string]any{}), conformance.Answer{Is: provider.ErrNoValues}},
		"NaN":             {answer(200, results([]float64{math.NaN()})), conformance.Answer{Is: provider.ErrNoValues}},
		"infinity":        {answer(200, results([]float64{math.Inf(1)})), conformance.Answer{Is: provider.ErrNoValues}},
		"text for number": {answer(200, results([]string{"many"})), conformance.Answer{Says: "can't be asked"}},
		"broken":          {answer(200, "x"), conformance.Answer{Says: "can't be asked"}},
		"no CBOR":         {conformance.Always(200, "<html>sign in</html>"), conformance.Answer{Says: "can't be asked"}},
		"a mistake":       {answer(400, failure("com.amazonaws#ValidationError", "Error in expression 'e1'")), conformance.Answer{Is: provider.ErrInvalidQuery, Says: "Error in expression"}},
		"not allowed":     {answer(403, failure("com.amazonaws#AccessDenied", "User is not authorized")), conformance.Answer{Says: "allow cloudwatch:GetMetricData"}},
		"not signed":      {answer(403, failure("com.amazonaws#InvalidClientTokenId", "The security token is invalid")), conformance.Answer{Says: "InvalidClientTokenId"}},
		"unknown":         {answer(401, failure("com.amazonaws#UnrecognizedClientException", "The security token is invalid")), conformance.Answer{Says: "UnrecognizedClientException"}},
		"not found":       {answer(404, failure("com.amazonaws#UnknownOperation", "")), conformance.Answer{Says: "UnknownOperation"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := conformance.Serve(t, tc.handler)
			value, err := build(t, at(t, server.URL)).Query(t.Context(), sample)
			conformance.Expect(t, tc.want, value, err)
			if err != nil && (strings.Contains(err.Error(), "aws-secret") || strings.Contains(err.Error(), "AKIDSECRET")) {
				t.Errorf("the error shows a credential: %v", err)
			}
		})
	}
}

func TestBusyServerIsAskedAgain(t *testing.T) {
	for code, status := range map[string]int{"ThrottlingException": 400, "TooManyRequestsException": 429, "InternalFailure": 500, "ServiceUnavailable": 503} {
		left := 1
		server := conformance.Serve(t, func(w http.ResponseWriter, r *http.Request) {
			if left--; left >= 0 {
				answer(status, failure("com.amazonaws#"+code, "busy"))(w, r)
				return
			}
			answer(200, results([]float64{7}))(w, r)
		})
		value, err := build(t, at(t, server.URL)).Query(t.Context(), sample)
		conformance.Expect(t, conformance.Answer{Value: 7}, value, err)
	}
}

func TestSlowLongAndGone(t *testing.T) {
	release := make(chan struct{})
	slow := conformance.Serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := build(t, at(t, slow.URL)).Query(ctx, sample); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("slow: %v", err)
	}
	long := conformance.Serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
		_, _ = io.CopyN(w, strings.NewReader(strings.Repeat(" ", 9<<20)), 9<<20)
	})
	if _, err := build(t, at(t, long.URL)).Query(t.Context(), sample); err == nil || !strings.Contains(err.Error(), "8 MiB") {
		t.Errorf("long: %v", err)
	}
	gone := conformance.Serve(t, answer(200, results()))
	gone.Close()
	if _, err := build(t, at(t, gone.URL)).Query(t.Context(), sample); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("gone: %v", err)
	}
}

// What is signed is for the host that it was signed for.
func TestRedirectTakesNoCredentialsElsewhere(t *testing.T) {
	other := conformance.Serve(t, answer(200, results([]float64{7})))
	server := conformance.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.String(), http.StatusTemporaryRedirect)
	})
	_, err := build(t, at(t, server.URL)).Query(t.Context(), sample)
	requests, _ := other.Requests()
	for _, r := range requests {
		if text := fmt.Sprint(r.Header); strings.Contains(text, "AKIDSECRET") || strings.Contains(text, "aws-secret") {
			t.Errorf("another host got %s (%v)", text, err)
		}
	}
}

func TestRequest(t *testing.T) {
	server := conformance.Serve(t, answer(200, results([]float64{1})))
	if _, err := build(t, at(t, server.URL)).Query(t.Context(), sample); err != nil {
		t.Fatal(err)
	}
	requests, bodies := server.Requests()
	if r := requests[0]; r.URL.Path != "/service/GraniteServiceVersion20100801/operation/GetMetricData" || !strings.Contains(r.Header.Get("Authorization"), "/eu-central-1/monitoring/") {
		t.Errorf("got %s %v", r.URL, r.Header)
	}
	var body struct {
		MetricDataQueries []struct {
			Id, Expression string
			ReturnData     *bool
			MetricStat     *struct {
				Metric struct {
					MetricName string
					Dimensions []struct{ Name, Value string }
				}
				Period int
			}
		}
		MaxDatapoints      int
		StartTime, EndTime time.Time
	}
	if err := cbor.Unmarshal([]byte(bodies[0]), &body); err != nil {
		t.Fatal(err)
	}
	if body.MaxDatapoints != 20 || body.EndTime.Sub(body.StartTime).Round(time.Second) != 10*time.Minute || body.EndTime.Sub(conformance.Now()).Abs() > time.Second {
		t.Errorf("got %d points from %s to %s", body.MaxDatapoints, body.StartTime, body.EndTime)
	}
	q := body.MetricDataQueries
	if len(q) != 2 || q[0].Expression != "m1 / m2" || *q[1].ReturnData || q[1].MetricStat.Metric.Dimensions[0].Value != "podinfo.test" || q[1].MetricStat.Period != 60 {
		t.Errorf("got %+v", q)
	}
}

func TestOnline(t *testing.T) {
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		says    string
	}{
		"empty query accepted": {answer(200, results()), ""},
		"empty query refused":  {answer(400, failure("com.amazonaws#MissingParameter", "no queries")), ""},
		"not allowed":          {answer(400, failure("com.amazonaws#AccessDeniedException", "no")), "cloudwatch:GetMetricData"},
		"expired":              {answer(403, failure("com.amazonaws#ExpiredToken", "expired")), "ExpiredToken"},
	} {
		t.Run(name, func(t *testing.T) {
			server := conformance.Serve(t, tc.handler)
			err := build(t, at(t, server.URL)).Online(t.Context())
			if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want %q", err, tc.says)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	good := at(t, "http://127.0.0.1:1")
	for says, cfg := range map[string]provider.Config{
		"region is empty":    {Spec: v1beta1.MetricTemplateProvider{Type: Type}, Interval: "1m"},
		"interval":           {Spec: good.Spec, Interval: "1min"},
		"needs the interval": {Spec: good.Spec},
	} {
		if _, err := New(&conformance.Clock{})(cfg); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
	_, err := build(t, good).Query(t.Context(), "sum(x)")
	conformance.Expect(t, conformance.Answer{Is: provider.ErrInvalidQuery, Says: "JSON array"}, 0, err)
}
