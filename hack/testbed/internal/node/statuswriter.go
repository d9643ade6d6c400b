package node

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// writeStatus keeps the status in the API server up to date until the pod has
// ended and that is written too.
//
// It is not left to virtual-kubelet, which replaces the whole status and the
// labels by what the node last knew: conditions that others set (readiness
// gates) and new labels would be lost.
func (w *podWorker) writeStatus() {
	defer close(w.done)
	written := w.currentPod()
	for final := false; !final; {
		select {
		case <-w.dirty:
		case <-w.ended:
			final = true
		}
		written = w.syncStatus(written)
	}
}

// syncStatus writes the present status, trying until it is accepted or the
// pod or the node is gone.
func (w *podWorker) syncStatus(written *corev1.Pod) *corev1.Pod {
	retry := backOff{next: configRetryFirst, first: configRetryFirst, limit: configRetryMax}
	for {
		next := podStatus(w.state(), written.Status, metav1.NewTime(w.clock.Now()))
		if equality.Semantic.DeepEqual(next, written.Status) {
			return written
		}
		result, err := w.patchStatus(written, next)
		if err == nil {
			return result
		}
		if apierrors.IsNotFound(err) || w.replaced() || w.agent.ctx.Err() != nil {
			return written
		}
		w.agent.log.Warn("status of pod not written", "pod", w.key(), "err", err)
		// What is invalid stays so until the state changes.
		if apierrors.IsInvalid(err) || !sleep(w.agent.ctx, w.clock, retry.delay()) {
			return written
		}
	}
}

// replaced says whether another pod has the name now.
func (w *podWorker) replaced() bool {
	current, err := w.agent.pods.Pods(w.namespace).Get(w.name)
	return err == nil && current.UID != w.uid
}

func (w *podWorker) patchStatus(written *corev1.Pod, next corev1.PodStatus) (*corev1.Pod, error) {
	before, err := json.Marshal(corev1.Pod{Status: written.Status})
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", w.key(), err)
	}
	// The UID is in the new version only, hence in the patch, where it makes
	// the API server refuse it for another pod of the same name.
	after, err := json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: w.uid}, Status: next})
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", w.key(), err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", w.key(), err)
	}
	result, err := w.agent.cfg.Client.CoreV1().Pods(w.namespace).Patch(w.agent.ctx, w.name,
		types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return nil, fmt.Errorf("status of pod %s: %w", w.key(), err)
	}
	return result, nil
}

// removeFromAPI lets a deleted pod go as soon as it has ended.
func (w *podWorker) removeFromAPI() {
	<-w.done
	if w.agent.ctx.Err() == nil {
		now := int64(0)
		err := w.agent.cfg.Client.CoreV1().Pods(w.namespace).Delete(w.agent.ctx, w.name, metav1.DeleteOptions{
			GracePeriodSeconds: &now, Preconditions: metav1.NewUIDPreconditions(string(w.uid)),
		})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			w.agent.log.Warn("ended pod not removed", "pod", w.key(), "err", err)
		}
	}
	w.agent.forget(w)
}
