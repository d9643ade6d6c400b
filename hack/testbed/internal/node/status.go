package node

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// podState is everything the status of a pod follows from.
type podState struct {
	// pod as the API server last showed it.
	pod           *corev1.Pod
	podIP, nodeIP string
	startTime     metav1.Time
	// init and app are the containers in the order of the spec.
	init, app []corev1.ContainerStatus
	// finished says that no container runs or will run again.
	finished bool
	// reason and message tell why the node ended the pod, if it did.
	reason, message string
}

// podStatus is the status to report. Conditions of others (readiness gates,
// the scheduler's) stay as they are in base, the status last written.
func podStatus(s podState, base corev1.PodStatus, now metav1.Time) corev1.PodStatus {
	out := *base.DeepCopy()
	out.ObservedGeneration = s.pod.Generation
	out.Phase = podPhase(s)
	out.Reason, out.Message = s.reason, s.message
	out.StartTime = &s.startTime
	out.InitContainerStatuses = s.init
	out.ContainerStatuses = s.app
	out.HostIP, out.HostIPs = s.nodeIP, []corev1.HostIP{{IP: s.nodeIP}}
	if s.podIP != "" {
		out.PodIP, out.PodIPs = s.podIP, []corev1.PodIP{{IP: s.podIP}}
	}
	for _, condition := range podConditions(s, out.Phase) {
		condition.ObservedGeneration = s.pod.Generation
		setCondition(&out.Conditions, condition, now)
	}
	return out
}

// setCondition keeps the time of the last transition when there is none.
func setCondition(conditions *[]corev1.PodCondition, condition corev1.PodCondition, now metav1.Time) {
	condition.LastTransitionTime = now
	for i, old := range *conditions {
		if old.Type != condition.Type {
			continue
		}
		if old.Status == condition.Status {
			condition.LastTransitionTime = old.LastTransitionTime
		}
		(*conditions)[i] = condition
		return
	}
	*conditions = append(*conditions, condition)
}

// podPhase follows kubelet: a container that waits after it has run counts as
// stopped, and a pod whose containers may start again is Running.
func podPhase(s podState) corev1.PodPhase {
	policy := s.pod.Spec.RestartPolicy
	if !s.finished && !initDone(s) {
		return corev1.PodPending
	}
	var waiting, running, stopped, failed int
	for _, c := range s.app {
		switch {
		case c.State.Running != nil:
			running++
		case c.State.Terminated != nil:
			stopped++
			if c.State.Terminated.ExitCode != 0 {
				failed++
			}
		case c.LastTerminationState.Terminated != nil:
			stopped++
			failed++
		default:
			waiting++
		}
	}
	switch {
	case s.finished && waiting == 0 && failed == 0 && s.reason == "" && initDone(s):
		return corev1.PodSucceeded
	case s.finished:
		return corev1.PodFailed
	case waiting > 0:
		return corev1.PodPending
	case running > 0 || policy == corev1.RestartPolicyAlways:
		return corev1.PodRunning
	case failed == 0:
		return corev1.PodSucceeded
	case policy == corev1.RestartPolicyNever:
		return corev1.PodFailed
	}
	return corev1.PodRunning
}

func initDone(s podState) bool {
	for i, c := range s.init {
		if isSidecar(&s.pod.Spec.InitContainers[i]) {
			if (c.Started == nil || !*c.Started) && c.LastTerminationState.Terminated == nil && c.State.Terminated == nil {
				return false
			}
			continue
		}
		if c.State.Terminated == nil || c.State.Terminated.ExitCode != 0 {
			return false
		}
	}
	return true
}

// isSidecar tells an init container that goes on next to the others.
func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func podConditions(s podState, phase corev1.PodPhase) []corev1.PodCondition {
	sandbox := condition(corev1.PodReadyToStartContainers, s.podIP != "" && !s.finished, "", "")
	initialized := condition(corev1.PodInitialized, initDone(s), "ContainersNotInitialized", "containers with incomplete status: "+names(s.init, func(c corev1.ContainerStatus) bool {
		return c.State.Terminated == nil || c.State.Terminated.ExitCode != 0
	}))
	if phase == corev1.PodSucceeded || phase == corev1.PodFailed {
		reason := "PodCompleted"
		if phase == corev1.PodFailed {
			reason = "PodFailed"
		}
		return []corev1.PodCondition{
			sandbox, initialized,
			condition(corev1.ContainersReady, false, reason, ""),
			condition(corev1.PodReady, false, reason, ""),
		}
	}
	// A sidecar counts among the containers that have to be ready.
	counted := append([]corev1.ContainerStatus(nil), s.app...)
	for i, c := range s.init {
		if isSidecar(&s.pod.Spec.InitContainers[i]) {
			counted = append(counted, c)
		}
	}
	unready := names(counted, func(c corev1.ContainerStatus) bool { return !c.Ready })
	containers := condition(corev1.ContainersReady, unready == "[]", "ContainersNotReady", "containers with unready status: "+unready)
	ready := containers
	ready.Type = corev1.PodReady
	if ready.Status == corev1.ConditionTrue {
		if missing := closedGates(s.pod); len(missing) > 0 {
			ready = condition(corev1.PodReady, false, "ReadinessGatesNotReady", strings.Join(missing, ", "))
		}
	}
	return []corev1.PodCondition{sandbox, initialized, containers, ready}
}

func condition(kind corev1.PodConditionType, ok bool, reason, message string) corev1.PodCondition {
	if ok {
		return corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue}
	}
	return corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, Reason: reason, Message: message}
}

func names(list []corev1.ContainerStatus, match func(corev1.ContainerStatus) bool) string {
	var out []string
	for _, c := range list {
		if match(c) {
			out = append(out, c.Name)
		}
	}
	return "[" + strings.Join(out, " ") + "]"
}

// closedGates are the readiness gates that nobody has opened.
func closedGates(pod *corev1.Pod) []string {
	var out []string
	for _, gate := range pod.Spec.ReadinessGates {
		open := false
		for _, c := range pod.Status.Conditions {
			open = open || c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue
		}
		if !open {
			out = append(out, fmt.Sprintf("the status of pod readiness gate %q is not \"True\"", gate.ConditionType))
		}
	}
	return out
}
