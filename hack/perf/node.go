package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
)

const (
	nodeName = "simulated"
	// heartbeat is how often the node says that it is there.
	heartbeat = 10 * time.Second
)

// node is a kubelet that runs nothing: its pods are ready as soon as they are there, and gone as soon as they have to go. What an
// operator costs does not depend on what the containers do.
type node struct {
	kube  kubernetes.Interface
	clock clock.WithTicker
	log   func(error)
	// addresses counts the addresses that pods were given, ended are the pods that were told to go, which more events are about.
	addresses atomic.Uint32
	ended     sync.Map
}

// run registers the node and serves it until ctx ends. It returns once the node is there.
func (n *node) run(ctx context.Context) error {
	now := metav1.NewTime(n.clock.Now())
	object := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: now, LastTransitionTime: now, Reason: "Simulated",
		}}},
	}
	if _, err := n.kube.CoreV1().Nodes().Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return err
	}
	// A lease for as long as any benchmark takes: a busy machine must not look like a lost node.
	seconds := int32(heartbeat / time.Second)
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: ptr.To(nodeName), LeaseDurationSeconds: &seconds, RenewTime: ptr.To(metav1.NowMicro())},
	}
	if _, err := n.kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Create(ctx, lease, metav1.CreateOptions{}); err != nil {
		return err
	}
	go wait.UntilWithContext(ctx, n.beat, heartbeat)
	return n.follow(ctx)
}

func (n *node) beat(ctx context.Context) {
	patch := fmt.Sprintf(`{"spec":{"renewTime":%q}}`, n.clock.Now().UTC().Format(metav1.RFC3339Micro))
	_, err := n.kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Patch(ctx, nodeName, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil && ctx.Err() == nil {
		n.log(err)
	}
}

// follow lets the pods of the node come and go.
func (n *node) follow(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(n.kube, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", nodeName).String()
	}))
	return follow(ctx, factory.Core().V1().Pods().Informer(), n.log, n.play)
}

// play does what a kubelet would do with a pod that never fails.
func (n *node) play(ctx context.Context, pod *corev1.Pod) error {
	switch {
	case pod.DeletionTimestamp != nil:
		if _, again := n.ended.LoadOrStore(pod.UID, true); again {
			return nil
		}
		err := n.kube.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: ptr.To(int64(0)), Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
		})
		if err != nil {
			// The next event tries again.
			n.ended.Delete(pod.UID)
		}
		return err
	case pod.Status.PodIP != "":
		return nil
	}
	raw, err := json.Marshal(map[string]any{"status": n.running(pod)})
	if err != nil {
		return err
	}
	if _, err = n.kube.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, raw, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("pod %s: %w", pod.Name, err)
	}
	return nil
}

func (n *node) running(pod *corev1.Pod) corev1.PodStatus {
	at, now := n.addresses.Add(1), metav1.NewTime(n.clock.Now())
	ip := fmt.Sprintf("10.%d.%d.%d", 128+(at>>16)&0x3f, (at>>8)&0xff, at&0xff)
	s := corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, StartTime: &now}
	for _, t := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: c.Image, Ready: true, Started: ptr.To(true),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	return s
}
