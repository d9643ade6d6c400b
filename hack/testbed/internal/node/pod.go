package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"flagger.app/flagger/hack/testbed/internal/node/sandbox"
)

// defaultGrace is what a pod has to end when it says nothing.
const defaultGrace = 30 * time.Second

// podWorker is one pod on the node, from the moment it was bound until the
// last of its containers is gone.
type podWorker struct {
	agent           *agent
	clock           clock.WithDelayedExecution
	namespace, name string
	uid             types.UID
	dir             string

	// stopCtx ends when the pod shall stop, killCtx when its time is up.
	stopCtx, killCtx  context.Context
	stopping, killing context.CancelFunc
	// ended is closed when no container runs any more, done when the API
	// server knows.
	ended, done chan struct{}
	// dirty wakes the status writer.
	dirty chan struct{}
	// remove takes the pod away from the API server, once.
	remove sync.Once

	// containers in the order of the spec, initCount init containers first.
	containers []*container
	initCount  int

	tokens tokenCache
	// contents of projected volumes as written; only for the goroutine that
	// makes and then refreshes them.
	contents map[string]payload

	mu        sync.Mutex
	pod       *corev1.Pod
	net       *sandbox.PodNetwork
	ip        netip.Addr
	startTime metav1.Time
	finished  bool
	reason    string
	message   string
	// kick is closed and replaced when something the pod refers to changes.
	kick chan struct{}
	// moved is closed and replaced when the state changes.
	moved chan struct{}
}

func newPodWorker(a *agent, pod *corev1.Pod) *podWorker {
	w := &podWorker{
		agent: a, clock: a.cfg.Clock, namespace: pod.Namespace, name: pod.Name, uid: pod.UID,
		dir: filepath.Join(a.podsDir(), string(pod.UID)), pod: pod,
		ended: make(chan struct{}), done: make(chan struct{}), dirty: make(chan struct{}, 1),
		contents: map[string]payload{}, kick: make(chan struct{}), moved: make(chan struct{}), startTime: metav1.NewTime(a.cfg.Clock.Now()),
	}
	w.stopCtx, w.stopping = context.WithCancel(context.Background())
	w.killCtx, w.killing = context.WithCancel(context.Background())
	for i := range pod.Spec.InitContainers {
		w.containers = append(w.containers, newContainer(&pod.Spec.InitContainers[i], reasonInitializing))
	}
	w.initCount = len(w.containers)
	waiting := reasonCreating
	if w.initCount > 0 {
		waiting = reasonInitializing
	}
	for i := range pod.Spec.Containers {
		w.containers = append(w.containers, newContainer(&pod.Spec.Containers[i], waiting))
	}
	return w
}

func newContainer(spec *corev1.Container, waiting string) *container {
	started := false
	return &container{spec: spec, status: corev1.ContainerStatus{
		Name: spec.Name, Image: spec.Image, Started: &started,
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: waiting}},
	}}
}

// start sets the pod going.
func (w *podWorker) start() {
	go w.writeStatus()
	go func() {
		w.live()
		w.tearDown()
		close(w.ended)
	}()
	w.changed()
}

// stop asks the pod to end within the grace period. Asked again with less
// time, it has less time.
func (w *podWorker) stop(grace time.Duration) {
	w.stopping()
	if grace <= 0 {
		w.killing()
		return
	}
	timer := w.clock.AfterFunc(grace, w.killing)
	go func() {
		<-w.ended
		timer.Stop()
	}()
}

// live is the whole life of the pod.
func (w *podWorker) live() {
	if deadline := w.currentPod().Spec.ActiveDeadlineSeconds; deadline != nil {
		timer := w.clock.AfterFunc(time.Duration(*deadline)*time.Second, func() {
			w.fail("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
			w.stop(w.grace())
		})
		defer timer.Stop()
	}
	if !w.retrying("FailedCreatePodSandBox", w.attach) || !w.retrying("FailedMount", w.makeVolumes) {
		return
	}
	var refreshing sync.WaitGroup
	refreshing.Go(w.refreshVolumes)
	defer refreshing.Wait()
	// A pod that ended by itself needs no fresh volumes any more.
	defer w.stopping()
	sidecarCtx, stopSidecars := context.WithCancel(context.Background())
	var sidecars sync.WaitGroup
	defer sidecars.Wait()
	defer stopSidecars()
	if !w.runInit(sidecarCtx, &sidecars) {
		return
	}
	var apps sync.WaitGroup
	for _, c := range w.apps() {
		apps.Go(func() { w.supervise(w.stopCtx, c, w.restartsApp) })
	}
	apps.Wait()
}

// runInit runs init containers one after the other; sidecars go on.
func (w *podWorker) runInit(sidecarCtx context.Context, sidecars *sync.WaitGroup) bool {
	for _, c := range w.inits() {
		if isSidecar(c.spec) {
			sidecars.Go(func() { w.supervise(sidecarCtx, c, func(int32) bool { return true }) })
			if !w.awaitStarted(c) {
				return false
			}
			continue
		}
		code := w.supervise(w.stopCtx, c, func(code int32) bool {
			return code != 0 && w.currentPod().Spec.RestartPolicy != corev1.RestartPolicyNever
		})
		if code != 0 || w.stopCtx.Err() != nil {
			return false
		}
	}
	return true
}

// restartsApp decides by the pod's restart policy.
func (w *podWorker) restartsApp(code int32) bool {
	switch w.currentPod().Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	default:
		return true
	}
}

// awaitStarted waits until a sidecar has started; false when the pod stops.
func (w *podWorker) awaitStarted(c *container) bool {
	for {
		w.mu.Lock()
		started, moved := *c.status.Started, w.moved
		w.mu.Unlock()
		if started {
			return true
		}
		select {
		case <-moved:
		case <-w.stopCtx.Done():
			return false
		}
	}
}

// retrying repeats a step until it works; false when the pod stops.
func (w *podWorker) retrying(reason string, step func(context.Context) error) bool {
	retry := backOff{next: configRetryFirst, first: configRetryFirst, limit: configRetryMax}
	for {
		kicked := w.kicked()
		err := step(w.stopCtx)
		if w.stopCtx.Err() != nil {
			return false
		}
		if err == nil {
			return true
		}
		w.agent.log.Warn("pod does not start yet", "pod", w.key(), "reason", reason, "err", err)
		w.event(corev1.EventTypeWarning, reason, "%v", err)
		timer := w.clock.NewTimer(retry.delay())
		select {
		case <-timer.C():
		case <-kicked:
		case <-w.stopCtx.Done():
		}
		timer.Stop()
	}
}

// attach gives the pod its network and address.
func (w *podWorker) attach(context.Context) error {
	if w.currentPod().Spec.HostNetwork {
		w.setNetwork(w.agent.network.HostNetwork(), netip.MustParseAddr(w.agent.cfg.NodeIP))
		return nil
	}
	ip, err := w.agent.addresses.take()
	if err != nil {
		return err
	}
	network, err := w.agent.network.Attach(ip)
	if err != nil {
		w.agent.addresses.release(ip)
		return err
	}
	w.setNetwork(network, ip)
	return nil
}

// tearDown frees what the pod holds; its logs stay.
func (w *podWorker) tearDown() {
	w.mu.Lock()
	network, ip := w.net, w.ip
	w.finished = true
	w.mu.Unlock()
	var errs []error
	if network != nil && network.NS != w.agent.network.Host() {
		errs = append(errs, network.Close())
		w.agent.addresses.release(ip)
	}
	errs = append(errs, os.RemoveAll(w.volumesDir()))
	if err := errors.Join(errs...); err != nil {
		w.agent.log.Warn("pod left something behind", "pod", w.key(), "err", err)
	}
	w.changed()
}

func (w *podWorker) key() string { return w.namespace + "/" + w.name }

func (w *podWorker) volumesDir() string { return filepath.Join(w.dir, "volumes") }

func (w *podWorker) containerDir(name string) string { return filepath.Join(w.dir, "containers", name) }

func (w *podWorker) terminationPath(container string) string {
	return filepath.Join(w.containerDir(container), "termination-log")
}

func (w *podWorker) event(kind, reason, format string, args ...any) {
	w.agent.recorder.Eventf(w.currentPod(), kind, reason, format, args...)
}

func (w *podWorker) hostname() string {
	pod := w.currentPod()
	if pod.Spec.HostNetwork {
		return w.agent.cfg.NodeName
	}
	return orDefault(pod.Spec.Hostname, pod.Name)
}

// etcFiles are the files of /etc that the node writes.
func (w *podWorker) etcFiles() map[string]string {
	pod, ip := w.currentPod(), w.facts().podIP
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" + ip + "\t"
	if pod.Spec.Subdomain != "" {
		hosts += fmt.Sprintf("%s.%s.%s.svc.cluster.local\t", w.hostname(), pod.Spec.Subdomain, pod.Namespace)
	}
	hosts += w.hostname() + "\n"
	for _, alias := range pod.Spec.HostAliases {
		for _, name := range alias.Hostnames {
			hosts += alias.IP + "\t" + name + "\n"
		}
	}
	return map[string]string{
		"/etc/hosts": hosts, "/etc/hostname": w.hostname() + "\n",
		"/etc/resolv.conf": resolvConf(pod, w.agent.cfg.DNSIP),
	}
}

// resolvConf is the resolver configuration by the pod's DNS policy. The node's
// own resolver (policy Default) is the cluster's as well.
func resolvConf(pod *corev1.Pod, dnsIP string) string {
	var servers, searches, options []string
	if pod.Spec.DNSPolicy != corev1.DNSNone {
		servers = []string{dnsIP}
		searches = []string{pod.Namespace + ".svc.cluster.local", "svc.cluster.local", "cluster.local"}
		options = []string{"ndots:5"}
	}
	if extra := pod.Spec.DNSConfig; extra != nil {
		servers = append(servers, extra.Nameservers...)
		searches = append(searches, extra.Searches...)
		for _, option := range extra.Options {
			text := option.Name
			if option.Value != nil {
				text += ":" + *option.Value
			}
			options = append(options, text)
		}
	}
	var out strings.Builder
	for _, server := range servers {
		out.WriteString("nameserver " + server + "\n")
	}
	if len(searches) > 0 {
		out.WriteString("search " + strings.Join(searches, " ") + "\n")
	}
	if len(options) > 0 {
		// The last one of a kind wins, so that the pod overrides ndots.
		out.WriteString("options " + strings.Join(options, " ") + "\n")
	}
	return out.String()
}
