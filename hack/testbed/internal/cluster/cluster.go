// Package cluster runs a Kubernetes control plane: etcd, API server,
// controller manager and scheduler, with their certificates and keys, all on
// addresses of the network namespace it is called in.
package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"

	"flagger.app/flagger/hack/testbed/internal/proc"
)

// SecurePort is the port of the API server on every address of the node.
const SecurePort = 6443

// Names of the programs that make up a control plane.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
)

// Config says how to run a control plane. All fields are required.
type Config struct {
	// Dir gets keys, data, logs (in Dir/log) and kubeconfig files.
	Dir string
	// Programs maps the names of the programs to their paths.
	Programs map[string]string
	// NodeIP is the address the API server is reached by, also from pods.
	NodeIP string
	// ServiceCIDR is the range of ClusterIPs; its first address is that of the
	// Service default/kubernetes.
	ServiceCIDR string
	// PodCIDR is the range of pod addresses.
	PodCIDR string
	Clock   clock.WithTicker
	Log     *slog.Logger
}

// Cluster is a running control plane.
type Cluster struct {
	cfg      Config
	ca       *authority
	failed   chan error
	failOnce sync.Once
}

// Start runs a control plane and returns when the API answers and the
// namespace default can take pods. It is killed when ctx ends; it has no state
// worth an orderly end.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	c := &Cluster{cfg: cfg, failed: make(chan error, 1)}
	began := cfg.Clock.Now()
	if err := c.writeFiles(); err != nil {
		return nil, err
	}
	client, _, err := c.Client("testbed")
	if err != nil {
		return nil, err
	}
	// The API server waits for etcd by itself.
	if err := c.run(ctx, Etcd, APIServer); err != nil {
		return nil, err
	}
	if err := c.waitFor(ctx, serverIsReady(client)); err != nil {
		return nil, err
	}
	// The others give up if the API server does not know their rights yet.
	if err := c.run(ctx, ControllerManager, Scheduler); err != nil {
		return nil, err
	}
	if err := c.waitFor(ctx, podsCanBeMade(client)); err != nil {
		return nil, err
	}
	cfg.Log.Info("control plane is ready", "after", cfg.Clock.Since(began).Round(time.Millisecond))
	return c, nil
}

// run starts the named programs.
func (c *Cluster) run(ctx context.Context, names ...string) error {
	for _, name := range names {
		p, err := proc.Start(ctx, proc.Spec{
			Name: name, Path: c.cfg.Programs[name], Args: c.flags(name),
			LogDir: c.logDir(), Dir: c.cfg.Dir,
		})
		if err != nil {
			return err
		}
		go c.watch(p)
	}
	return nil
}

// watch reports the first program that ends by itself.
func (c *Cluster) watch(p *proc.Process) {
	<-p.Done()
	if err := p.Err(); err != nil {
		c.failOnce.Do(func() { c.failed <- err })
	}
}

// Failed yields an error if one of the programs ends unasked.
func (c *Cluster) Failed() <-chan error { return c.failed }

// AdminKubeconfig is the path of the kubeconfig of a cluster administrator.
func (c *Cluster) AdminKubeconfig() string { return c.path("admin.kubeconfig") }

// AuditLog is the path of the audit log: a JSON event per line and API call,
// at level Metadata, written before the response is.
func (c *Cluster) AuditLog() string { return filepath.Join(c.cfg.Dir, "audit.log") }

// Kubeconfig makes a client certificate for the user with the rights of an
// administrator and returns the path of a kubeconfig with it. Users of their
// own keep the parts of a testbed apart in the audit log.
func (c *Cluster) Kubeconfig(user string) (string, error) {
	path := c.path(user + ".kubeconfig")
	return path, c.writeKubeconfig(path, user, "system:masters")
}

// Client returns a client for the user, as [Cluster.Kubeconfig] does.
func (c *Cluster) Client(user string) (kubernetes.Interface, *rest.Config, error) {
	path, err := c.Kubeconfig(user)
	if err != nil {
		return nil, nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	// The parts of the testbed must not be what a rollout waits for.
	config.QPS, config.Burst = 200, 400
	config.UserAgent = user
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("client of %s: %w", user, err)
	}
	return client, config, nil
}

// path is the path of a file that holds a key or refers to one.
func (c *Cluster) path(name string) string { return filepath.Join(c.cfg.Dir, "pki", name) }

// serviceIP is the first address of the Service range.
func serviceIP(cidr string) (net.IP, error) {
	_, network, err := net.ParseCIDR(cidr)
	if err != nil {
		return nil, fmt.Errorf("service range: %w", err)
	}
	ip := network.IP.To4()
	if ip == nil {
		return nil, fmt.Errorf("service range %s: only IPv4 is supported", cidr)
	}
	return net.IPv4(ip[0], ip[1], ip[2], ip[3]+1), nil
}

func mkdirs(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	return nil
}
