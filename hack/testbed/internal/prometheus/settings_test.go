package prometheus

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

func TestSettings(t *testing.T) {
	c := Config{
		ScrapeInterval: 1500 * time.Millisecond, Kubeconfig: "/k",
		Static: map[string][]string{"b": {"10.0.0.1:80"}, "a": {"10.0.0.2:80", "10.0.0.3:80/stats"}},
	}
	s := c.settings()
	s.ScrapeConfigs[2].RelabelConfig = s.ScrapeConfigs[2].RelabelConfig[:1]
	got, err := yaml.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	// Durations with a fraction, as 1.5s, are not understood by Prometheus.
	want := `global:
  scrape_interval: 1500ms
  scrape_timeout: 1500ms
scrape_configs:
- job_name: a
  static_configs:
  - targets:
    - 10.0.0.2:80
  - labels:
      __metrics_path__: /stats
    targets:
    - 10.0.0.3:80
- job_name: b
  static_configs:
  - targets:
    - 10.0.0.1:80
- job_name: kubernetes-pods
  kubernetes_sd_configs:
  - kubeconfig_file: /k
    role: pod
  relabel_configs:
  - action: keep
    regex: "true"
    source_labels:
    - __meta_kubernetes_pod_annotation_prometheus_io_scrape
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}
