package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// role is what a proxy is to istiod: the first part of its node id.
type role string

const (
	sidecar role = "sidecar"
	router  role = "router"
)

// workload is what a proxy knows about its pod.
type workload struct {
	role                                  role
	pod, namespace, ip, name, domain, app string
	version, revision, canonical          string
	labels                                map[string]string
	// istiod is host:port of its plain-text discovery service.
	istiod string
	// interception is how requests get to the proxy: REDIRECT or NONE.
	interception string
}

// Labels by which Istio names workloads, the preferred ones first.
var (
	canonicalLabels = []string{"service.istio.io/canonical-name", "app.kubernetes.io/name", "app"}
	revisionLabels  = []string{"service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"}
)

// labelsFile is where the pod's labels are mounted, as Istio's injector does.
const labelsFile = "/etc/istio/pod/labels"

// readWorkload takes the variables that Istio's injector sets.
func readWorkload(r role, domain string, env func(string) string) (workload, error) {
	if r != sidecar && r != router {
		return workload{}, fmt.Errorf("unknown role %q; say sidecar or router", r)
	}
	w := workload{
		role: r, domain: domain, pod: env("POD_NAME"), namespace: env("POD_NAMESPACE"), ip: env("INSTANCE_IP"),
		name: env("ISTIO_META_WORKLOAD_NAME"), interception: env("ISTIO_META_INTERCEPTION_MODE"), istiod: env("ISTIOD"),
	}
	for name, value := range map[string]string{"POD_NAME": w.pod, "POD_NAMESPACE": w.namespace, "INSTANCE_IP": w.ip} {
		if value == "" {
			return workload{}, fmt.Errorf("environment variable %s is missing; set it from the pod's fields", name)
		}
	}
	if w.interception == "" {
		w.interception = "REDIRECT"
	}
	if w.istiod == "" {
		w.istiod = "istiod.istio-system.svc.cluster.local:15010"
	}
	content, err := os.ReadFile(labelsFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return workload{}, err
	}
	w.labels = parseLabels(string(content))
	if w.name == "" {
		w.name = controllerOf(w.pod, w.labels)
	}
	w.app, w.version = w.labels["app"], w.labels["version"]
	w.canonical, w.revision = firstOf(w.labels, canonicalLabels, w.name), firstOf(w.labels, revisionLabels, "latest")
	return w, nil
}

// parseLabels reads the lines key="value" of a downward API volume.
func parseLabels(content string) map[string]string {
	labels := map[string]string{}
	for line := range strings.Lines(content) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			labels[key] = strings.Trim(value, `"`)
		}
	}
	return labels
}

// controllerOf is the name of the Deployment of a pod, as Istio's injector finds it.
func controllerOf(pod string, labels map[string]string) string {
	if hash := labels["pod-template-hash"]; hash != "" {
		if name, _, ok := strings.Cut(pod, "-"+hash); ok {
			return name
		}
	}
	return pod
}

func firstOf(labels map[string]string, keys []string, otherwise string) string {
	for _, key := range keys {
		if v := labels[key]; v != "" {
			return v
		}
	}
	return otherwise
}

type object = map[string]any

// discoveryCluster is the name of istiod in the bootstrap; istiod's own
// configuration relies on it.
const discoveryCluster = "xds-grpc"

// bootstrap is the configuration that leads Envoy to istiod. pilot-agent
// writes one that goes through pilot-agent itself, for certificates; in plain
// text Envoy needs nobody in between.
func bootstrap(w workload) object {
	host, port, _ := strings.Cut(w.istiod, ":")
	ads := object{"ads": object{}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
	return object{
		"node": object{
			"id":       fmt.Sprintf("%s~%s~%s.%s~%s", w.role, w.ip, w.pod, w.namespace, w.domain),
			"cluster":  w.canonical + "." + w.namespace,
			"metadata": w.metadata(),
		},
		"admin": object{"address": socket("127.0.0.1", 15000)},
		"dynamic_resources": object{
			"lds_config": ads, "cds_config": ads,
			"ads_config": object{
				"api_type": "GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
				"grpc_services": []any{object{"envoy_grpc": object{"cluster_name": discoveryCluster}}},
			},
		},
		"static_resources": object{"clusters": []any{object{
			"name": discoveryCluster, "type": "STRICT_DNS", "connect_timeout": "1s", "dns_lookup_family": "V4_ONLY",
			"load_assignment": object{"cluster_name": discoveryCluster, "endpoints": []any{object{
				"lb_endpoints": []any{object{"endpoint": object{"address": socket(host, port)}}},
			}}},
			"typed_extension_protocol_options": object{
				"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
					"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
					"explicit_http_config": object{"http2_protocol_options": object{}},
				},
			},
		}}},
		"layered_runtime": object{"layers": []any{object{"name": "static", "static_layer": object{
			// Istio's limit for regular expressions; that of Envoy is too small for what users match.
			"re2.max_program_size.error_level": 32768,
		}}}},
	}
}

// metadata is what istiod asks of a node.
func (w workload) metadata() object {
	return object{
		"NAMESPACE": w.namespace, "NAME": w.pod, "WORKLOAD_NAME": w.name, "LABELS": w.labels,
		"INSTANCE_IPS": w.ip, "CLUSTER_ID": "Kubernetes", "MESH_ID": "cluster.local", "NODE_NAME": "node-0",
		"ISTIO_VERSION": "1.31.1", "INTERCEPTION_MODE": w.interception, "SERVICE_ACCOUNT": "default",
	}
}

func socket(host string, port any) object {
	return object{"socket_address": object{"address": host, "port_value": port}}
}
