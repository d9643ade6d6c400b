package memory

import (
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
)

// In a testbed the same holds for a real API server, whether its watch cache is asked for streams or not.
func TestCachesFillFromARealServer(t *testing.T) {
	kubeconfig, err := filepath.Abs(os.Getenv("KUBECONFIG"))
	if os.Getenv("TESTBED_NAME") == "" || err != nil {
		t.Skip("this is no testbed: make test-memory runs it in one")
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS, cfg.Burst = 1000, 1000
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	create(t, client)
	for name, streams := range map[string]string{"lists": "false", "streams": "true"} {
		t.Run(name, func(t *testing.T) { within(t, kubeconfig, "KUBE_FEATURE_WatchListClient="+streams) })
	}
}

// create makes the objects.
func create(t *testing.T, client dynamic.Interface) {
	objects := make(chan object)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for o := range objects {
				body := o.body(true)
				body["metadata"] = map[string]any{"name": o.name, "namespace": namespace}
				if o.resource == "secrets" {
					body["data"] = map[string]any{"release": base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", contents*3/4)))}
				}
				_, err := client.Resource(corev1.SchemeGroupVersion.WithResource(o.resource)).Namespace(namespace).
					Create(context.Background(), &unstructured.Unstructured{Object: body}, metav1.CreateOptions{})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, o := range all() {
		objects <- o
	}
	close(objects)
	wait.Wait()
}
