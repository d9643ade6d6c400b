package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"flagger.app/flagger/hack/testbed/internal/dns"
	"flagger.app/flagger/hack/testbed/internal/netns"
	"flagger.app/flagger/hack/testbed/internal/node"
	"flagger.app/flagger/hack/testbed/internal/service"
)

// nodeName is the only node's name.
const nodeName = "node-0"

// nodeTimeout bounds the time until the node is ready and names resolve.
const nodeTimeout = 5 * time.Minute

// startNode runs node agent, Services and DNS, and returns when the node is ready to take pods.
func (w *worker) startNode(ctx context.Context) error {
	client, _, err := w.cluster.Client("testbed-node")
	if err != nil {
		return err
	}
	w.keep(func() error {
		return node.Run(ctx, node.Config{
			Client: client, Images: w.images(), NodeName: nodeName, DNSIP: netns.DNSIP,
			NodeIP: netns.NodeIP, StateDir: w.dir.Sub("node"), Log: w.log.With("part", "node"),
		})
	})
	services, _, err := w.cluster.Client("testbed-service")
	if err != nil {
		return err
	}
	factory := w.served(services)
	w.keep(func() error { return service.Run(ctx, factory, w.log.With("part", "service")) })
	w.keep(func() error { return dns.Run(ctx, factory, netns.DNSIP, w.log.With("part", "dns")) })
	return w.waitNode(ctx, client)
}

// served is what Services and DNS read: all, or one namespace where nobody sends requests to any other.
func (w *worker) served(client kubernetes.Interface) informers.SharedInformerFactory {
	return informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(cmp.Or(w.plan.Served, metav1.NamespaceAll)))
}

// images are the programs of the node by image name.
func (w *worker) images() map[string]node.Image {
	images := map[string]node.Image{}
	for name, image := range w.plan.Images {
		path := image.Path
		if image.Component != "" {
			path = w.programLink(image.Component, image.Program)
		}
		mounts := map[string]string{}
		for target, component := range image.Mounts {
			mounts[target] = w.programLink(component, component)
		}
		images[name] = node.Image{Path: path, Args: image.Args, Env: image.Env, Mounts: mounts}
	}
	return images
}

// waitNode returns when the node is ready and the API server's Service, by its
// name in the cluster DNS, leads to the API server.
func (w *worker) waitNode(ctx context.Context, client kubernetes.Interface) error {
	const every = 50 * time.Millisecond
	var last error
	poll := func(ctx context.Context) (bool, error) {
		last = checkNode(ctx, client)
		if last == nil {
			last = checkNames(ctx)
		}
		return last == nil, nil
	}
	err := wait.PollUntilContextTimeout(ctx, every, nodeTimeout, true, poll)
	if wait.Interrupted(err) && ctx.Err() == nil {
		return fmt.Errorf("node %s: not ready after %s: %w; the log is %s", nodeName, nodeTimeout, last, w.dir.Log())
	}
	return err
}

func checkNode(ctx context.Context, client kubernetes.Interface) error {
	n, err := client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range n.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return errors.New("its condition Ready is not True")
}

// checkNames connects to the API server by its name, through DNS and Service.
func checkNames(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", "kubernetes.default.svc.cluster.local:443")
	if err != nil {
		return err
	}
	return conn.Close()
}
