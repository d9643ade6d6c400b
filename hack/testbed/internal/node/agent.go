package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	vk "github.com/virtual-kubelet/virtual-kubelet/node"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	"flagger.app/flagger/hack/testbed/internal/node/sandbox"
)

// shutdownGrace is what pods get when the node itself goes.
const shutdownGrace = 2 * time.Second

// MaybeRunContainerInit turns this process into a container when it was
// started to become one. main calls it before anything else.
func MaybeRunContainerInit() { sandbox.MaybeRunInit() }

// agent is the node.
type agent struct {
	cfg       Config
	log       *slog.Logger
	ctx       context.Context
	network   *sandbox.Network
	spawner   *sandbox.Spawner
	addresses *addressPool
	recorder  record.EventRecorder
	pods      corev1listers.PodLister

	mu      sync.Mutex
	workers map[string]*podWorker // by namespace/name, the present pod
	leaving map[*podWorker]bool   // replaced or deleted, still ending
}

// Run is the node until ctx ends; its containers have ended when it returns.
// It has to be called in the network namespace that is to be the node's, as
// root of a user namespace.
func Run(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	a := &agent{
		cfg: cfg, ctx: ctx, log: cfg.Log.With("node", cfg.NodeName),
		workers: map[string]*podWorker{}, leaving: map[*podWorker]bool{},
	}
	if a.addresses, err = newAddressPool(cfg.PodCIDR); err != nil {
		return err
	}
	if err := resetDir(a.podsDir()); err != nil {
		return err
	}
	if a.network, err = sandbox.NewNetwork(netip.MustParseAddr(cfg.NodeIP)); err != nil {
		return fmt.Errorf("node %s: %w", cfg.NodeName, err)
	}
	defer func() { _ = a.network.Close() }()
	a.spawner = sandbox.NewSpawner()
	defer a.spawner.Close()
	events := record.NewBroadcaster()
	defer events.Shutdown()
	defer a.shutDown()
	events.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: cfg.Client.CoreV1().Events(corev1.NamespaceAll)})
	a.recorder = events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: cfg.NodeName})
	return a.runControllers(ctx)
}

func (a *agent) podsDir() string { return filepath.Join(a.cfg.StateDir, a.cfg.NodeName, "pods") }

// resetDir empties the directory: pods of an earlier run are gone.
func resetDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("node: clean up %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("node: StateDir: %w", err)
	}
	return nil
}

// runControllers runs everything that talks to the API server. The first part
// to fail ends the others.
func (a *agent) runControllers(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pods := informers.NewSharedInformerFactoryWithOptions(a.cfg.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", a.cfg.NodeName).String()
	}))
	others := informers.NewSharedInformerFactory(a.cfg.Client, 0)
	podController, err := a.podController(pods, others)
	if err != nil {
		return err
	}
	nodeController, err := vk.NewNodeController(vk.NewNaiveNodeProvider(), nodeObject(a.cfg), a.cfg.Client.CoreV1().Nodes(),
		vk.WithNodeEnableLeaseV1(a.cfg.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease), vk.DefaultLeaseDuration))
	if err != nil {
		return fmt.Errorf("node controller: %w", err)
	}
	server, err := a.listen()
	if err != nil {
		return err
	}
	defer server.close()
	pods.Start(ctx.Done())
	others.Start(ctx.Done())
	others.WaitForCacheSync(ctx.Done())
	var parts sync.WaitGroup
	run := func(name string, f func() error) {
		parts.Go(func() {
			if err := f(); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	run("node API", server.serve)
	run("pod controller", func() error { return podController.Run(ctx, max(4, runtime.NumCPU())) })
	run("node controller", func() error { return nodeController.Run(ctx) })
	<-ctx.Done()
	server.close()
	parts.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

func (a *agent) podController(pods, others informers.SharedInformerFactory) (*vk.PodController, error) {
	core := others.Core().V1()
	a.pods = pods.Core().V1().Pods().Lister()
	// Without the overall limit of 10 per second that is the default.
	limiter := func() workqueue.TypedRateLimiter[any] {
		return workqueue.NewTypedItemExponentialFailureRateLimiter[any](time.Millisecond, 10*time.Second)
	}
	controller, err := vk.NewPodController(vk.PodControllerConfig{
		PodClient: a.cfg.Client.CoreV1(), PodInformer: pods.Core().V1().Pods(), EventRecorder: a.recorder,
		Provider: provider{a}, ConfigMapInformer: core.ConfigMaps(), SecretInformer: core.Secrets(), ServiceInformer: core.Services(),
		SyncPodsFromKubernetesRateLimiter:    limiter(),
		DeletePodsFromKubernetesRateLimiter:  limiter(),
		SyncPodStatusFromProviderRateLimiter: limiter(),
		// Ours knows the pod's own address and waits for missing objects.
		SkipDownwardAPIResolution: true,
	})
	if err != nil {
		return nil, fmt.Errorf("pod controller: %w", err)
	}
	handlers := map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		pods.Core().V1().Pods().Informer(): cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, pod any) { a.observe(pod.(*corev1.Pod)) }},
		core.ConfigMaps().Informer():       a.kickOn("ConfigMap"),
		core.Secrets().Informer():          a.kickOn("Secret"),
	}
	for informer, handler := range handlers {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return nil, fmt.Errorf("pod controller: %w", err)
		}
	}
	return controller, nil
}

// kickOn wakes the pods that use a changed object.
func (a *agent) kickOn(kind string) cache.ResourceEventHandler {
	kick := func(obj any) {
		object, ok := obj.(metav1.Object)
		if !ok {
			return
		}
		for _, w := range a.allWorkers() {
			if w.namespace == object.GetNamespace() && refersTo(w.currentPod(), kind, object.GetName()) {
				w.kickAll()
			}
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: kick, UpdateFunc: func(_, obj any) { kick(obj) }}
}

func (a *agent) observe(pod *corev1.Pod) {
	a.mu.Lock()
	w := a.workers[pod.Namespace+"/"+pod.Name]
	a.mu.Unlock()
	if w != nil {
		w.observe(pod)
	}
}

func (a *agent) allWorkers() []*podWorker {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]*podWorker, 0, len(a.workers)+len(a.leaving))
	for _, w := range a.workers {
		out = append(out, w)
	}
	for w := range a.leaving {
		out = append(out, w)
	}
	return out
}

func (a *agent) worker(namespace, name string) *podWorker {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.workers[namespace+"/"+name]
}

// forget drops a pod that has ended and whose object is gone, with its logs.
func (a *agent) forget(w *podWorker) {
	a.mu.Lock()
	if a.workers[w.key()] == w {
		delete(a.workers, w.key())
	}
	delete(a.leaving, w)
	a.mu.Unlock()
	if err := os.RemoveAll(w.dir); err != nil {
		a.log.Warn("pod left something behind", "pod", w.key(), "err", err)
	}
}

// shutDown ends all pods; their objects stay.
func (a *agent) shutDown() {
	workers := a.allWorkers()
	for _, w := range workers {
		w.stop(min(w.grace(), shutdownGrace))
	}
	for _, w := range workers {
		<-w.ended
	}
}

// services are read from the API server, because a pod that was made right
// after a Service expects to find it.
func (a *agent) services(ctx context.Context, namespace string) ([]*corev1.Service, error) {
	var out []*corev1.Service
	list, err := a.cfg.Client.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Services of %s: %w", namespace, err)
	}
	for i := range list.Items {
		out = append(out, &list.Items[i])
	}
	api, err := a.cfg.Client.CoreV1().Services(corev1.NamespaceDefault).Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("get Service default/kubernetes: %w", err)
	}
	if err == nil && namespace != corev1.NamespaceDefault {
		out = append(out, api)
	}
	return out, nil
}

// liveObjects reads ConfigMaps and Secrets past the cache, which may be
// behind when a pod is made right after them.
func (a *agent) liveObjects(ctx context.Context, namespace string) objects {
	return &liveObjects{ctx: ctx, client: a.cfg.Client.CoreV1(), namespace: namespace}
}

type liveObjects struct {
	ctx       context.Context
	client    corev1client.CoreV1Interface
	namespace string
}

func (o *liveObjects) ConfigMap(name string) (*corev1.ConfigMap, error) {
	cm, err := o.client.ConfigMaps(o.namespace).Get(o.ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("ConfigMap %s/%s: %w", o.namespace, name, err)
	}
	return cm, nil
}

func (o *liveObjects) Secret(name string) (*corev1.Secret, error) {
	secret, err := o.client.Secrets(o.namespace).Get(o.ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("Secret %s/%s: %w", o.namespace, name, err)
	}
	return secret, nil
}
