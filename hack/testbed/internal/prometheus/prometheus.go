// Package prometheus runs a Prometheus server beside a testbed's cluster. It
// scrapes the annotated pods and is reached as a Service.
package prometheus

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/hack/testbed/internal/proc"
)

// Program is the name of the program.
const Program = "prometheus"

// Port is where the server listens on the node's address and at its Service.
const Port = 9090

// Namespace and ServiceName are where in-cluster clients find it:
// http://prometheus.monitoring:9090.
const (
	Namespace   = "monitoring"
	ServiceName = "prometheus"
)

// Config says how to run the server.
type Config struct {
	// Path is the program.
	Path string
	// Dir gets configuration and data, LogDir the log.
	Dir, LogDir string
	// Kubeconfig is what targets are discovered with.
	Kubeconfig string
	// NodeIP is the address to listen on.
	NodeIP string
	// ScrapeInterval is the time between samples; 0 means 1 s.
	ScrapeInterval time.Duration
	// Static adds jobs with fixed targets (host:port[/path]), by job name.
	Static map[string][]string
	Client kubernetes.Interface
}

// Start runs the server and its Service, and returns when it answers queries.
// The server is killed when ctx ends.
func Start(ctx context.Context, cfg Config) (*proc.Process, error) {
	if cfg.ScrapeInterval == 0 {
		cfg.ScrapeInterval = time.Second
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("prometheus: make folder: %w", err)
	}
	content, err := yaml.Marshal(cfg.settings())
	if err != nil {
		return nil, fmt.Errorf("prometheus: configuration: %w", err)
	}
	file := filepath.Join(cfg.Dir, "prometheus.yml")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return nil, fmt.Errorf("prometheus: configuration: %w", err)
	}
	if err := cfg.createService(ctx); err != nil {
		return nil, err
	}
	p, err := proc.Start(ctx, proc.Spec{
		Name: Program, Path: cfg.Path, LogDir: cfg.LogDir, Dir: cfg.Dir,
		Args: []string{
			"--config.file=" + file,
			"--storage.tsdb.path=" + filepath.Join(cfg.Dir, "data"),
			"--web.listen-address=" + cfg.address(),
			"--web.enable-lifecycle",
			// Pods come and go within seconds here; the default of 5 s is for thousands of targets.
			"--scrape.discovery-reload-interval=500ms",
			"--log.level=warn",
		},
	})
	if err != nil {
		return nil, err
	}
	// It has loaded its data then.
	return p, p.WaitReady(ctx, "http://"+cfg.address()+"/-/ready")
}

func (c Config) address() string { return net.JoinHostPort(c.NodeIP, strconv.Itoa(Port)) }

// createService makes a Service without selector that leads to the server.
func (c Config) createService(ctx context.Context) error {
	name, port := "http", int32(Port)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}
	if _, err := c.Client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("namespace %s: %w", Namespace, err)
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: ServiceName},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: name, Port: port}}},
	}
	if _, err := c.Client.CoreV1().Services(Namespace).Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("service %s/%s: %w", Namespace, ServiceName, err)
	}
	ready := true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: Namespace, Name: ServiceName + "-testbed",
			Labels: map[string]string{
				discoveryv1.LabelServiceName: ServiceName,
				discoveryv1.LabelManagedBy:   "testbed",
			},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{c.NodeIP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		}},
	}
	if _, err := c.Client.DiscoveryV1().EndpointSlices(Namespace).Create(ctx, slice, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("endpointslice %s/%s: %w", Namespace, slice.Name, err)
	}
	return nil
}
