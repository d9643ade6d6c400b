package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	listers "flagger.app/flagger/pkg/client/listers/flagger/v1beta1"
	"flagger.app/flagger/pkg/controller"
	"flagger.app/flagger/pkg/controller/fence"
	"flagger.app/flagger/pkg/kube"
	"flagger.app/flagger/pkg/kube/objects"
	"flagger.app/flagger/pkg/router/knative"
	"flagger.app/flagger/pkg/telemetry"
	"flagger.app/flagger/pkg/version"
)

// clients are the connections to the API servers.
type clients struct {
	// config is that of the main cluster.
	config  *rest.Config
	kube    *kube.Client
	flagger rest.Interface
	main    controller.Cluster
	// mesh is nil when the routing objects are in the main cluster.
	mesh *controller.Cluster
	// lease shares neither connections nor limits with anything else.
	lease *kube.Client
	// separateMesh is whether mesh is another cluster, where owner references would point nowhere.
	separateMesh bool
}

func connect(o *options, recorder *telemetry.Recorder) (*clients, error) {
	cfg, err := restConfig(o, o.kubeconfig, recorder)
	if err != nil {
		return nil, err
	}
	c := &clients{config: cfg}
	if c.kube, err = kube.NewForConfig(cfg); err != nil {
		return nil, err
	}
	if c.flagger, err = flaggerClient(cfg); err != nil {
		return nil, err
	}
	if c.main, err = cluster(cfg, c.kube); err != nil {
		return nil, err
	}
	if o.kubeconfigServiceMesh != "" {
		if err := c.connectMesh(o, cfg.Host, recorder); err != nil {
			return nil, err
		}
	}
	c.lease, err = leaseClient(cfg, o)
	return c, err
}

func (c *clients) connectMesh(o *options, mainHost string, recorder *telemetry.Recorder) error {
	cfg, err := restConfig(o, o.kubeconfigServiceMesh, recorder)
	if err != nil {
		return err
	}
	discovery, err := kube.NewForConfig(cfg)
	if err != nil {
		return err
	}
	mesh, err := cluster(cfg, discovery)
	if err != nil {
		return err
	}
	c.mesh, c.separateMesh = &mesh, cfg.Host != mainHost
	return nil
}

func restConfig(o *options, kubeconfig string, recorder *telemetry.Recorder) (*rest.Config, error) {
	cfg, err := loadConfig(o.master, kubeconfig)
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, fmt.Errorf("this is no pod of a cluster: %w: set -kubeconfig to the path of a kubeconfig", err)
	}
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %q: %w: check -kubeconfig, -kubeconfig-service-mesh and -master", kubeconfig, err)
	}
	cfg.QPS, cfg.Burst = o.rate()
	cfg.UserAgent = "flagger/" + version.Version
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return recorder.Calls(patient{fence.Transport{Next: next}, o.timeout, clock.RealClock{}}, clock.RealClock{})
	})
	return cfg, nil
}

// loadConfig reads a kubeconfig; without one and without a master the process runs in the cluster.
func loadConfig(master, kubeconfig string) (*rest.Config, error) {
	if master == "" && kubeconfig == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags(master, kubeconfig)
}

func cluster(cfg *rest.Config, discovery kube.Discovery) (controller.Cluster, error) {
	client, err := objects.NewForConfig(cfg)
	if err != nil {
		return controller.Cluster{}, err
	}
	outlines, err := metadata.NewForConfig(cfg)
	if err != nil {
		return controller.Cluster{}, fmt.Errorf("client for %s: %w", cfg.Host, err)
	}
	return controller.Cluster{Dynamic: client, Metadata: outlines, Discovery: discovery}, nil
}

// leaseClient has its own limits and gives up a call early enough to try again before the lease is lost.
func leaseClient(cfg *rest.Config, o *options) (*kube.Client, error) {
	own := rest.CopyConfig(cfg)
	own.QPS, own.RateLimiter = -1, nil
	own.Timeout = o.election.renewDeadline / 2
	own.UserAgent += "/leader-election"
	return kube.NewForConfig(own)
}

// templates finds MetricTemplates in the cache.
type templates struct {
	lister listers.MetricTemplateLister
}

func (t templates) MetricTemplate(namespace, name string) (*v1beta1.MetricTemplate, error) {
	return t.lister.MetricTemplates(namespace).Get(name)
}

// secrets reads Secrets when they are needed: their contents are not kept.
type secrets struct {
	client *kube.Client
}

func (s secrets) SecretData(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	secret, err := s.client.Secret(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return secret.Data, nil
}

// knativeServices reads Knative Services when the metrics of one are asked for.
type knativeServices struct {
	client dynamic.Interface
}

func (k knativeServices) LatestRevision(ctx context.Context, namespace, name string) (string, error) {
	service, err := k.client.Resource(knative.Ref("", "").Resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	latest, _, err := unstructured.NestedString(service.Object, "status", "latestCreatedRevisionName")
	if err == nil && latest == "" {
		err = errors.New("status.latestCreatedRevisionName is empty")
	}
	return latest, err
}
