package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// entry is a line of the access log, in the format that the mesh
// configuration of the testbed asks for.
type entry struct {
	Code     int     `json:"code"`
	Duration float64 `json:"duration"` // Milliseconds.
	Flags    string  `json:"flags"`
	Protocol string  `json:"protocol"`
	GRPC     string  `json:"grpc"`
	// Cluster is Envoy's name of the upstream, direction|port|subset|host.
	Cluster string `json:"cluster"`
	// Services are the services of the cluster, as istiod noted them there.
	Services []service `json:"services"`
	// Workload is what istiod noted at the endpoint:
	// workload;namespace;canonical name;canonical revision;cluster.
	Workload string `json:"workload"`
}

type service struct {
	Host      string `json:"host"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// unknown is what Istio says where it knows nothing, as of a peer without proxy.
const unknown = "unknown"

// labelNames are the labels of Istio's standard metrics,
// https://istio.io/latest/docs/reference/config/metrics/.
var labelNames = []string{
	"reporter",
	"source_workload", "source_workload_namespace", "source_principal", "source_app", "source_version", "source_cluster",
	"source_canonical_service", "source_canonical_revision",
	"destination_workload", "destination_workload_namespace", "destination_principal", "destination_app",
	"destination_version", "destination_cluster", "destination_canonical_service", "destination_canonical_revision",
	"destination_service", "destination_service_name", "destination_service_namespace",
	"request_protocol", "response_code", "response_flags", "grpc_response_status", "connection_security_policy",
}

// buckets are those of Envoy, in milliseconds.
var buckets = []float64{
	0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
}

// series counts the requests that a proxy handled.
type series struct {
	self      workload
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
}

func newSeries(self workload) *series {
	s := &series{
		self: self, registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "istio_requests_total", Help: "Requests handled by the proxy.",
		}, labelNames),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "istio_request_duration_milliseconds", Help: "How long requests took.", Buckets: buckets,
		}, labelNames),
	}
	s.registry.MustRegister(s.requests, s.durations)
	return s
}

func (s *series) handler() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{})
}

// observe counts a line of the access log.
func (s *series) observe(line []byte) {
	var e entry
	if err := json.Unmarshal(line, &e); err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "istioproxy: access log: %v: %s\n", err, line)
		return
	}
	labels := s.labels(e)
	s.requests.With(labels).Inc()
	s.durations.With(labels).Observe(e.Duration)
}

// labels says who asked whom, as far as this proxy can know it: a sidecar
// knows the workload behind it, and any proxy what istiod told it of the
// endpoint it chose.
func (s *series) labels(e entry) prometheus.Labels {
	l := prometheus.Labels{}
	for _, name := range labelNames {
		l[name] = unknown
	}
	l["response_code"], l["response_flags"] = fmt.Sprint(e.Code), e.Flags
	l["request_protocol"], l["grpc_response_status"] = "http", ""
	if e.GRPC != "" {
		l["request_protocol"], l["grpc_response_status"] = "grpc", e.GRPC
	}
	direction, _, _ := strings.Cut(e.Cluster, "|")
	if direction == "inbound" {
		l["reporter"], l["connection_security_policy"] = "destination", "none"
		s.nameSelf(l, "destination")
	} else {
		l["reporter"] = "source"
		s.nameSelf(l, "source")
		nameEndpoint(l, e.Workload)
	}
	nameService(l, e)
	return l
}

func (s *series) nameSelf(l prometheus.Labels, side string) {
	w := s.self
	l[side+"_workload"], l[side+"_workload_namespace"], l[side+"_cluster"] = w.name, w.namespace, "Kubernetes"
	l[side+"_canonical_service"], l[side+"_canonical_revision"] = w.canonical, w.revision
	l[side+"_app"], l[side+"_version"] = orUnknown(w.app), orUnknown(w.version)
}

func nameEndpoint(l prometheus.Labels, noted string) {
	parts := strings.Split(noted, ";")
	names := []string{
		"destination_workload", "destination_workload_namespace", "destination_canonical_service",
		"destination_canonical_revision", "destination_cluster",
	}
	for i, name := range names {
		if i < len(parts) {
			l[name] = orUnknown(parts[i])
		}
	}
	l["destination_app"], l["destination_version"] = l["destination_canonical_service"], l["destination_canonical_revision"]
}

func nameService(l prometheus.Labels, e entry) {
	if len(e.Services) > 0 {
		first := e.Services[0]
		l["destination_service"], l["destination_service_name"] = orUnknown(first.Host), orUnknown(first.Name)
		l["destination_service_namespace"] = orUnknown(first.Namespace)
		return
	}
	// Passthrough and error responses have a cluster without services, or none.
	if parts := strings.Split(e.Cluster, "|"); len(parts) == 4 && parts[3] != "" {
		l["destination_service"] = parts[3]
	} else if e.Cluster != "" {
		l["destination_service_name"] = e.Cluster
	}
}

func orUnknown(s string) string {
	if s == "" || s == "-" {
		return unknown
	}
	return s
}
