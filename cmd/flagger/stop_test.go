package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/kubernetes/scheme"
)

// emptyCluster is an API server without any object but a lease. It closes watched when the first watch of Canaries began.
type emptyCluster struct {
	*httptest.Server
	mu      sync.Mutex
	stored  []byte
	watched chan struct{}
	once    sync.Once
}

func newEmptyCluster(t *testing.T) *emptyCluster {
	t.Helper()
	c := &emptyCluster{watched: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"major":"1","minor":"36","gitVersion":"v1.36.3"}`)
	})
	mux.HandleFunc("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", c.lease)
	mux.HandleFunc("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}", c.lease)
	mux.HandleFunc("/api/v1", discovery("v1", "services"))
	mux.HandleFunc("/apis/apps/v1", discovery("apps/v1", "deployments"))
	mux.HandleFunc("/api/v1/services", c.none("v1", "ServiceList", nil))
	mux.HandleFunc("/apis/apps/v1/deployments", c.none("apps/v1", "DeploymentList", nil))
	began := func() { c.once.Do(func() { close(c.watched) }) }
	mux.HandleFunc("/apis/flagger.app/v1beta1/canaries", c.none("flagger.app/v1beta1", "CanaryList", began))
	mux.HandleFunc("/apis/flagger.app/v1beta1/metrictemplates", c.none("flagger.app/v1beta1", "MetricTemplateList", nil))
	mux.HandleFunc("/apis/flagger.app/v1beta1/alertproviders", c.none("flagger.app/v1beta1", "AlertProviderList", nil))
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Close)
	return c
}

func discovery(groupVersion, resource string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":%q,"resources":[{"name":%q,"namespaced":true}]}`,
			groupVersion, resource)
	}
}

// none lists and watches objects that there are none of.
func (c *emptyCluster) none(groupVersion, kind string, watched func()) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") == "" {
			fmt.Fprintf(w, `{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":"1"},"items":[]}`, groupVersion, kind)
			return
		}
		fmt.Fprintf(w, `{"type":"BOOKMARK","object":{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":"1","annotations":{"k8s.io/initial-events-end":"true"}}}}`,
			groupVersion, strings.TrimSuffix(kind, "List"))
		_ = http.NewResponseController(w).Flush()
		if watched != nil {
			watched()
		}
		<-r.Context().Done()
	}
}

// lease stores leases, in the form in which they come.
func (c *emptyCluster) lease(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	const protobuf = "application/vnd.kubernetes.protobuf"
	if r.Method == http.MethodGet && c.stored == nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
		return
	}
	if r.Method != http.MethodGet {
		c.stored, _ = io.ReadAll(r.Body)
	}
	w.Header().Set("Content-Type", protobuf)
	_, _ = w.Write(c.stored)
}

// holder is who has the lease.
func (c *emptyCluster) holder(t *testing.T) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	lease := &coordinationv1.Lease{}
	if _, _, err := scheme.Codecs.UniversalDeserializer().Decode(c.stored, nil, lease); err != nil {
		t.Fatal(err)
	}
	return *lease.Spec.HolderIdentity
}

// patience is how long a process may take to begin and to end.
const patience = 5 * time.Minute

// logWatch keeps a log and closes heard when it says a certain thing.
type logWatch struct {
	text  strings.Builder
	waits string
	heard chan struct{}
}

func (l *logWatch) Write(p []byte) (int, error) {
	before := strings.Contains(l.text.String(), l.waits)
	l.text.Write(p)
	if !before && strings.Contains(l.text.String(), l.waits) {
		close(l.heard)
	}
	return len(p), nil
}

// C-03: a process that is told to stop ends its work, gives the lease back, and that is a success.
func TestC03_StopIsASuccess(t *testing.T) {
	for name, elected := range map[string]bool{"alone": false, "elected": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := newEmptyCluster(t)
			command := program(t, "-mesh-provider=kubernetes", "-master="+cluster.URL, "-port=0", "-metrics-server="+cluster.URL,
				fmt.Sprintf("-enable-leader-election=%t", elected))
			command.Env = append(command.Env, "KUBERNETES_SERVICE_HOST=")
			log := &logWatch{waits: "acting as elected leader", heard: make(chan struct{})}
			command.Stderr = log
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- command.Wait() }()
			limit := time.AfterFunc(patience, func() { _ = command.Process.Kill() })
			defer limit.Stop()
			began := cluster.watched
			if elected {
				began = log.heard
			}
			select {
			case <-began:
			case err := <-ended:
				t.Fatalf("did not begin: %v\n%s", err, log.text.String())
			}
			if err := command.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Errorf("a normal stop is a failure: %v\n%s", err, log.text.String())
			}
			if elected && cluster.holder(t) != "" {
				t.Errorf("the lease is still held by %s", cluster.holder(t))
			}
		})
	}
}
