package node

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagger.app/flagger/hack/testbed/internal/node/sandbox"
)

// changed tells the status writer and whoever waits for a state.
func (w *podWorker) changed() {
	w.mu.Lock()
	close(w.moved)
	w.moved = make(chan struct{})
	w.mu.Unlock()
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}

// update changes the state of a container.
func (w *podWorker) update(change func()) {
	w.mu.Lock()
	change()
	w.mu.Unlock()
	w.changed()
}

// observe takes in the pod as the API server has it now.
func (w *podWorker) observe(pod *corev1.Pod) {
	if pod.UID != w.uid {
		return
	}
	old := w.currentPod()
	w.update(func() { w.pod = pod })
	// The downward API shows these.
	if !maps.Equal(old.Labels, pod.Labels) || !maps.Equal(old.Annotations, pod.Annotations) {
		w.kickAll()
	}
}

// kickAll lets everything that waits for an object look again.
func (w *podWorker) kickAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.kick)
	w.kick = make(chan struct{})
}

func (w *podWorker) kicked() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kick
}

func (w *podWorker) currentPod() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

func (w *podWorker) network() *sandbox.PodNetwork {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.net
}

func (w *podWorker) setNetwork(network *sandbox.PodNetwork, ip netip.Addr) {
	w.update(func() { w.net, w.ip = network, ip })
}

func (w *podWorker) facts() podFacts {
	w.mu.Lock()
	defer w.mu.Unlock()
	facts := podFacts{pod: w.pod, nodeIP: w.agent.cfg.NodeIP}
	if w.ip.IsValid() {
		facts.podIP = w.ip.String()
	}
	return facts
}

// grace is what the pod has to end: what the deletion says, else the spec.
func (w *podWorker) grace() time.Duration {
	pod := w.currentPod()
	seconds := pod.Spec.TerminationGracePeriodSeconds
	if pod.DeletionGracePeriodSeconds != nil {
		seconds = pod.DeletionGracePeriodSeconds
	}
	if seconds == nil {
		return defaultGrace
	}
	return time.Duration(*seconds) * time.Second
}

// fail records why the node ends the pod.
func (w *podWorker) fail(reason, message string) {
	w.update(func() { w.reason, w.message = reason, message })
}

func (w *podWorker) inits() []*container { return w.containers[:w.initCount] }

func (w *podWorker) apps() []*container { return w.containers[w.initCount:] }

// find gives the container of a name; the first one without a name.
func (w *podWorker) find(name string) *container {
	for _, c := range w.containers {
		if c.spec.Name == name {
			return c
		}
	}
	if name == "" {
		return w.apps()[0]
	}
	return nil
}

func (w *podWorker) restarts(c *container) int32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return c.status.RestartCount
}

func (w *podWorker) setWaiting(c *container, reason, message string) {
	w.update(func() {
		if c.status.State.Terminated != nil {
			c.status.LastTerminationState.Terminated = c.status.State.Terminated
		}
		c.status.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	})
}

func (w *podWorker) setRunning(c *container, process *sandbox.Process, log *logFile, l *launch, began metav1.Time) {
	w.update(func() {
		c.process, c.log, c.env, c.dir = process, log, l.spec.Env, l.spec.Dir
		c.status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: began}}
		c.status.ContainerID = fmt.Sprintf("process://%s/%s/%d", w.uid, c.spec.Name, c.status.RestartCount)
		c.status.ImageID = l.image.Path
	})
}

// setStarted ends the time of the startup probe.
func (w *podWorker) setStarted(c *container, ready bool) {
	w.update(func() {
		if c.status.State.Running == nil {
			return
		}
		started := true
		c.status.Started, c.status.Ready = &started, ready
	})
}

// setReady records a readiness result and says whether it is news.
func (w *podWorker) setReady(c *container, ready bool) (news bool) {
	w.mu.Lock()
	news = c.status.State.Running != nil && (c.status.Ready != ready || !ready && !c.unready)
	if news {
		c.status.Ready, c.unready = ready, !ready
	}
	w.mu.Unlock()
	if news {
		w.changed()
	}
	return news
}

func (w *podWorker) setTerminated(c *container, ended corev1.ContainerStateTerminated) *corev1.ContainerStateTerminated {
	w.update(func() {
		stopped := false
		ended.ContainerID = c.status.ContainerID
		c.status.State = corev1.ContainerState{Terminated: &ended}
		c.status.Started, c.unready = &stopped, false
		// An init container that did its work counts as ready.
		c.status.Ready = ended.ExitCode == 0 && !isSidecar(c.spec) && slices.Contains(w.inits(), c)
	})
	return &ended
}

// restarting prepares the state for the next run.
func (w *podWorker) restarting(c *container, ended *corev1.ContainerStateTerminated) {
	var outdated *logFile
	w.update(func() {
		c.status.RestartCount++
		c.status.LastTerminationState.Terminated = ended
		c.status.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reasonCreating}}
		outdated, c.previous = c.previous, c.log
	})
	if outdated != nil && outdated != c.log {
		_ = os.Remove(outdated.path)
	}
}

// state is what the status follows from, at this moment.
func (w *podWorker) state() podState {
	facts := w.facts()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := podState{
		pod: w.pod, podIP: facts.podIP, nodeIP: facts.nodeIP, startTime: w.startTime,
		finished: w.finished, reason: w.reason, message: w.message,
	}
	for _, c := range w.inits() {
		s.init = append(s.init, *c.status.DeepCopy())
	}
	for _, c := range w.apps() {
		s.app = append(s.app, *c.status.DeepCopy())
	}
	return s
}
