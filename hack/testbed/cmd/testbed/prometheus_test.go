package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/wait"

	"flagger.app/flagger/hack/testbed/internal/prometheus"
	"flagger.app/flagger/hack/testbed/internal/state"
)

// scrapedPod is a Prometheus that is scraped by the testbed's: it serves
// metrics on a port that its annotations name.
const scrapedPod = `apiVersion: v1
kind: Pod
metadata:
  name: scraped
  namespace: default
  labels: {app: scraped}
  annotations: {prometheus.io/scrape: "true", prometheus.io/port: "9797"}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: prom/prometheus:v3
    args: [--config.file=/dev/null, --storage.tsdb.path=/tmp/data, "--web.listen-address=:9797"]
`

// Pods with the annotations are scraped within seconds, with the labels that
// metric queries rely on, and the answer can be had outside.
func TestPrometheusScrapesAnnotatedPods(t *testing.T) {
	needComponent(t, controlPlane)
	needComponent(t, prometheus.Program)
	t.Parallel()
	root := shortDir(t)
	dir := filepath.Join(root, "p")
	manifest := filepath.Join(root, "pod.yaml")
	if err := os.WriteFile(manifest, []byte(scrapedPod), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { testbed(t, "down", "--state", dir) })
	must(t, "up", "--detach", "--state", dir, "--with", prometheus.Program,
		"--image", "prom/prometheus:*=@"+prometheus.Program)
	must(t, "exec", "--state", dir, "--", "kubectl", "apply", "-f", manifest)

	var got []map[string]string
	var last error
	scraped := func(ctx context.Context) (bool, error) {
		got, last = query(ctx, state.Dir(dir).Socket(prometheus.Program), `up{job="kubernetes-pods"} == 1`)
		return len(got) > 0, nil
	}
	if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, patience, true, scraped); err != nil {
		pods, _ := testbed(t, "exec", "--state", dir, "--", "kubectl", "describe", "pods")
		t.Fatalf("no sample: %v, last answer: %v\n%s", err, last, pods)
	}
	want := map[string]string{
		"__name__": "up", "job": "kubernetes-pods", "app": "scraped", "instance": got[0]["instance"],
		"kubernetes_namespace": "default", "kubernetes_pod_name": "scraped", "namespace": "default", "pod": "scraped",
	}
	if diff := cmp.Diff([]map[string]string{want}, got); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	must(t, "exec", "--state", dir, "--", "curl", "--fail", "--silent", "--max-time", "10",
		"http://prometheus.monitoring:9090/-/ready")
}

// query asks the server behind the socket and returns the labels of the samples.
func query(ctx context.Context, socket, expression string) ([]map[string]string, error) {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet,
		"http://prometheus/api/v1/query?query="+url.QueryEscape(expression), nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", response.Status)
	}
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, err
	}
	var labels []map[string]string
	for _, sample := range answer.Data.Result {
		labels = append(labels, sample.Metric)
	}
	return labels, nil
}
