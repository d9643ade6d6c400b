package node

import (
	"context"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	corev1 "k8s.io/api/core/v1"
)

// provider is what virtual-kubelet's pod controller drives.
type provider struct{ *agent }

// NotifyPods takes no callback: the node writes statuses itself, see
// writeStatus. Being there it keeps virtual-kubelet from polling.
func (p provider) NotifyPods(context.Context, func(*corev1.Pod)) {}

// CreatePod starts the pod; all that can fail is retried by its worker.
func (p provider) CreatePod(_ context.Context, pod *corev1.Pod) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := pod.Namespace + "/" + pod.Name
	if old := p.workers[key]; old != nil {
		if old.uid == pod.UID {
			return nil
		}
		p.dismissLocked(old)
	}
	w := newPodWorker(p.agent, pod)
	p.workers[key] = w
	w.start()
	return nil
}

// UpdatePod takes in what of a pod can change.
func (p provider) UpdatePod(_ context.Context, pod *corev1.Pod) error {
	p.observe(pod)
	return nil
}

// DeletePod begins the end of the pod and does not wait for it.
func (p provider) DeletePod(_ context.Context, pod *corev1.Pod) error {
	w := p.worker(pod.Namespace, pod.Name)
	if w == nil || w.uid != pod.UID {
		return errdefs.NotFoundf("pod %s/%s is not on this node", pod.Namespace, pod.Name)
	}
	w.observe(pod)
	w.dismiss()
	return nil
}

// dismissLocked makes room for a new pod of the same name.
func (p provider) dismissLocked(w *podWorker) {
	delete(p.workers, w.key())
	p.leaving[w] = true
	w.dismiss()
}

// dismiss stops the pod, for good also in the API server.
func (w *podWorker) dismiss() {
	w.stop(w.grace())
	w.remove.Do(func() { go w.removeFromAPI() })
}

// GetPod does not know a pod whose name another one has taken meanwhile, so
// that virtual-kubelet, which goes by names, makes that one.
func (p provider) GetPod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	w := p.worker(namespace, name)
	if w == nil {
		return nil, errdefs.NotFoundf("pod %s/%s is not on this node", namespace, name)
	}
	if w.replaced() {
		return nil, errdefs.NotFoundf("pod %s/%s is another one now", namespace, name)
	}
	return w.currentPod().DeepCopy(), nil
}

// GetPodStatus gives the status as the node sees it.
func (p provider) GetPodStatus(ctx context.Context, namespace, name string) (*corev1.PodStatus, error) {
	pod, err := p.GetPod(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return &pod.Status, nil
}

// GetPods gives all pods on the node.
func (p provider) GetPods(context.Context) ([]*corev1.Pod, error) {
	var out []*corev1.Pod
	for _, w := range p.allWorkers() {
		out = append(out, w.currentPod().DeepCopy())
	}
	return out, nil
}
