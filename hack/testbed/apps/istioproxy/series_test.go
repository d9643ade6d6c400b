package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// scrape is what the proxy exports, by the labels that are not unknown.
func scrape(t *testing.T, s *series, metric string) []string {
	t.Helper()
	recorder := httptest.NewRecorder()
	s.handler().ServeHTTP(recorder, httptest.NewRequest("GET", "/stats/prometheus", nil))
	var found []string
	for line := range strings.Lines(recorder.Body.String()) {
		if !strings.HasPrefix(line, metric+"{") {
			continue
		}
		labels, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), metric+"{"), "} ")
		var known []string
		for label := range strings.SplitSeq(labels, ",") {
			if !strings.HasSuffix(label, `="unknown"`) && !strings.HasSuffix(label, `=""`) {
				known = append(known, label)
			}
		}
		found = append(found, strings.Join(known, " ")+" "+value)
	}
	return found
}

func TestSeries(t *testing.T) {
	w := workload{
		role: sidecar, name: "podinfo-primary", namespace: "test", app: "podinfo-primary", canonical: "podinfo-primary", revision: "latest",
	}
	for _, test := range []struct {
		name, line, want string
	}{
		{"to the pod", `{"code":500,"duration":12,"flags":"-","protocol":"HTTP/1.1","grpc":null,"cluster":"inbound|9898||",` +
			`"services":[{"host":"podinfo.test.svc.cluster.local","name":"podinfo","namespace":"test"}],"workload":null}`,
			`connection_security_policy="none" destination_app="podinfo-primary" destination_canonical_revision="latest" ` +
				`destination_canonical_service="podinfo-primary" destination_cluster="Kubernetes" ` +
				`destination_service="podinfo.test.svc.cluster.local" destination_service_name="podinfo" destination_service_namespace="test" ` +
				`destination_workload="podinfo-primary" destination_workload_namespace="test" reporter="destination" ` +
				`request_protocol="http" response_code="500" response_flags="-" 1`},
		{"from the pod", `{"code":200,"duration":12,"flags":"-","protocol":"HTTP/2","grpc":"0","cluster":"outbound|80||shop.team.svc.cluster.local",` +
			`"services":[{"host":"shop.team.svc.cluster.local","name":"shop","namespace":"team"}],"workload":"shop-v1;team;shop;v1;Kubernetes"}`,
			`destination_app="shop" destination_canonical_revision="v1" destination_canonical_service="shop" destination_cluster="Kubernetes" ` +
				`destination_service="shop.team.svc.cluster.local" destination_service_name="shop" destination_service_namespace="team" ` +
				`destination_version="v1" destination_workload="shop-v1" destination_workload_namespace="team" grpc_response_status="0" ` +
				`reporter="source" request_protocol="grpc" response_code="200" response_flags="-" source_app="podinfo-primary" ` +
				`source_canonical_revision="latest" source_canonical_service="podinfo-primary" source_cluster="Kubernetes" ` +
				`source_workload="podinfo-primary" source_workload_namespace="test" 1`},
		{"nowhere", `{"code":404,"duration":0,"flags":"NR","protocol":"HTTP/1.1","grpc":null,"cluster":null,"services":null,"workload":null}`,
			`reporter="source" request_protocol="http" response_code="404" response_flags="NR" source_app="podinfo-primary" ` +
				`source_canonical_revision="latest" source_canonical_service="podinfo-primary" source_cluster="Kubernetes" ` +
				`source_workload="podinfo-primary" source_workload_namespace="test" 1`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSeries(w)
			s.observe([]byte(test.line))
			if diff := cmp.Diff([]string{test.want}, scrape(t, s, "istio_requests_total")); diff != "" {
				t.Errorf("series (-want +got):\n%s", diff)
			}
			for _, bucket := range scrape(t, s, "istio_request_duration_milliseconds_bucket") {
				fast := strings.Contains(bucket, `le="10"`) || strings.Contains(bucket, `le="5"`)
				if strings.Contains(test.line, `"duration":12`) && fast && !strings.HasSuffix(bucket, " 0") {
					t.Errorf("12 ms are counted in %s", bucket)
				}
			}
		})
	}
}

func TestWorkloadIsNamedByItsController(t *testing.T) {
	labels := parseLabels("app=\"podinfo\"\npod-template-hash=\"5d8c\"\n")
	if got := controllerOf("podinfo-primary-5d8c-x7z2p", labels); got != "podinfo-primary" {
		t.Errorf("got %s, want podinfo-primary", got)
	}
	if got := firstOf(labels, canonicalLabels, "other"); got != "podinfo" {
		t.Errorf("canonical name %s, want podinfo", got)
	}
}

func TestWhatCannotBeRedirectedIsRefused(t *testing.T) {
	for _, args := range [][]string{{"-b", "80"}, {"-b", "*", "-i", "*"}, {"-b", "*", "-m", "TPROXY"}, {"-b", "*", "-d", "x"}} {
		if err := redirect(args); err == nil {
			t.Errorf("istio-iptables %v is accepted", args)
		}
	}
	if err := redirect([]string{"-b", ""}); err != nil {
		t.Errorf("without ports: %v", err)
	}
}

func TestApplicationIsScrapedWithTheProxy(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte("http_requests_total 7\n"))
	}))
	defer app.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(app.URL, "http://"), ":")
	t.Setenv("ISTIO_PROMETHEUS_ANNOTATIONS", `{"scrape":"true","path":"","port":"`+port+`"}`)
	s := newSeries(workload{name: "podinfo"})
	s.observe([]byte(`{"code":200,"cluster":"inbound|9898||"}`))
	all, err := merged(s.handler())
	if err != nil {
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	request := httptest.NewRequest("GET", metricsPath, nil)
	request.Header.Set("Accept-Encoding", "gzip")
	all.ServeHTTP(recorder, request)
	for _, want := range []string{"istio_requests_total{", "\nhttp_requests_total 7\n"} {
		if !strings.Contains(recorder.Body.String(), want) {
			t.Errorf("%q is missing in\n%s", want, recorder.Body.String())
		}
	}
}
