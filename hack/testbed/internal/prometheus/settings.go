package prometheus

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
)

// The types mirror the parts of Prometheus' configuration file that are used,
// https://prometheus.io/docs/prometheus/latest/configuration/configuration/.
type settings struct {
	Global        global      `json:"global"`
	ScrapeConfigs []scrapeJob `json:"scrape_configs"`
}

type global struct {
	ScrapeInterval string `json:"scrape_interval"`
	ScrapeTimeout  string `json:"scrape_timeout"`
}

type scrapeJob struct {
	JobName       string         `json:"job_name"`
	Static        []static       `json:"static_configs,omitempty"`
	Kubernetes    []kubernetesSD `json:"kubernetes_sd_configs,omitempty"`
	RelabelConfig []relabel      `json:"relabel_configs,omitempty"`
}

type static struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels,omitempty"`
}

type kubernetesSD struct {
	Role           string `json:"role"`
	KubeconfigFile string `json:"kubeconfig_file"`
}

type relabel struct {
	SourceLabels []string `json:"source_labels,omitempty"`
	Action       string   `json:"action,omitempty"`
	Regex        string   `json:"regex,omitempty"`
	TargetLabel  string   `json:"target_label,omitempty"`
	Replacement  string   `json:"replacement,omitempty"`
}

// settings is the content of the configuration file.
func (c Config) settings() settings {
	// A scrape must end before the next one begins.
	interval := fmt.Sprintf("%dms", c.ScrapeInterval.Milliseconds())
	s := settings{Global: global{ScrapeInterval: interval, ScrapeTimeout: interval}}
	for _, job := range sets.List(sets.KeySet(c.Static)) {
		scrape := scrapeJob{JobName: job}
		for _, target := range c.Static[job] {
			scrape.Static = append(scrape.Static, staticTarget(target))
		}
		s.ScrapeConfigs = append(s.ScrapeConfigs, scrape)
	}
	s.ScrapeConfigs = append(s.ScrapeConfigs, scrapeJob{
		JobName:       "kubernetes-pods",
		Kubernetes:    []kubernetesSD{{Role: "pod", KubeconfigFile: c.Kubeconfig}},
		RelabelConfig: podRelabelling(),
	})
	return s
}

// staticTarget splits host:port[/path]; the path is /metrics if there is none.
func staticTarget(target string) static {
	address, path, found := strings.Cut(target, "/")
	if !found {
		return static{Targets: []string{address}}
	}
	return static{Targets: []string{address}, Labels: map[string]string{"__metrics_path__": "/" + path}}
}

// podRelabelling is what charts and mesh documentation assume of a Prometheus:
// the prometheus.io annotations choose pods, path and port; namespace and name
// are in both the old labels (kubernetes_…) and the new ones.
func podRelabelling() []relabel {
	const (
		annotation = "__meta_kubernetes_pod_annotation_prometheus_io_"
		namespace  = "__meta_kubernetes_namespace"
		pod        = "__meta_kubernetes_pod_name"
	)
	return []relabel{
		{SourceLabels: []string{annotation + "scrape"}, Action: "keep", Regex: "true"},
		{SourceLabels: []string{"__meta_kubernetes_pod_phase"}, Action: "drop", Regex: "Pending|Succeeded|Failed|Completed"},
		{SourceLabels: []string{annotation + "scheme"}, Action: "replace", Regex: "(https?)", TargetLabel: "__scheme__"},
		{SourceLabels: []string{annotation + "path"}, Action: "replace", Regex: "(.+)", TargetLabel: "__metrics_path__"},
		{
			SourceLabels: []string{"__address__", annotation + "port"}, Action: "replace",
			Regex: `([^:]+)(?::\d+)?;(\d+)`, Replacement: "$1:$2", TargetLabel: "__address__",
		},
		{Action: "labelmap", Regex: "__meta_kubernetes_pod_label_(.+)"},
		{SourceLabels: []string{namespace}, Action: "replace", TargetLabel: "kubernetes_namespace"},
		{SourceLabels: []string{pod}, Action: "replace", TargetLabel: "kubernetes_pod_name"},
		{SourceLabels: []string{namespace}, Action: "replace", TargetLabel: "namespace"},
		{SourceLabels: []string{pod}, Action: "replace", TargetLabel: "pod"},
	}
}
