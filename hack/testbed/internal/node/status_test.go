package node

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	early = metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	late  = metav1.NewTime(early.Add(time.Minute))
)

func waiting() corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "app", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}}
}

func running(ready bool) corev1.ContainerStatus {
	yes := true
	return corev1.ContainerStatus{Name: "app", Ready: ready, Started: &yes, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
}

func exited(code int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "app", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}}
}

func crashed() corev1.ContainerStatus {
	c := waiting()
	c.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1}
	return c
}

func testPod(policy corev1.RestartPolicy, inits ...corev1.Container) *corev1.Pod {
	return &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: policy, InitContainers: inits, Containers: []corev1.Container{{Name: "app"}}}}
}

func TestPodPhase(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	type list = []corev1.ContainerStatus
	for _, row := range []struct {
		name  string
		state podState
		want  corev1.PodPhase
	}{
		{"not started", podState{pod: testPod("Always"), app: list{waiting()}}, "Pending"},
		{"one of two started", podState{pod: testPod("Always"), app: list{waiting(), running(false)}}, "Pending"},
		{"running", podState{pod: testPod("Always"), app: list{running(false)}}, "Running"},
		{"in crash loop", podState{pod: testPod("Always"), app: list{crashed()}}, "Running"},
		{"between two runs", podState{pod: testPod("Always"), app: list{exited(0)}}, "Running"},
		{"failed, to be tried again", podState{pod: testPod("OnFailure"), app: list{exited(1)}}, "Running"},
		{"job done", podState{pod: testPod("OnFailure"), app: list{exited(0)}, finished: true}, "Succeeded"},
		{"job failed", podState{pod: testPod("Never"), app: list{exited(1)}, finished: true}, "Failed"},
		{"stopped in order", podState{pod: testPod("Always"), app: list{exited(0)}, finished: true}, "Succeeded"},
		{"killed", podState{pod: testPod("Always"), app: list{exited(137)}, finished: true}, "Failed"},
		{"stopped before it started", podState{pod: testPod("Always"), app: list{waiting()}, finished: true}, "Failed"},
		{"deadline", podState{pod: testPod("Never"), app: list{exited(0)}, finished: true, reason: "DeadlineExceeded"}, "Failed"},
		{"init running", podState{pod: testPod("Always", corev1.Container{}), init: list{running(false)}, app: list{waiting()}}, "Pending"},
		{"init done", podState{pod: testPod("Always", corev1.Container{}), init: list{exited(0)}, app: list{running(true)}}, "Running"},
		{"sidecar started", podState{pod: testPod("Always", corev1.Container{RestartPolicy: &always}), init: list{running(true)}, app: list{running(true)}}, "Running"},
		{"init failed for good", podState{pod: testPod("Never", corev1.Container{}), init: list{exited(1)}, app: list{waiting()}, finished: true}, "Failed"},
	} {
		if got := podPhase(row.state); got != row.want {
			t.Errorf("%s: phase %s, want %s", row.name, got, row.want)
		}
	}
}

func conditionOf(status corev1.PodStatus, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range status.Conditions {
		if status.Conditions[i].Type == kind {
			return &status.Conditions[i]
		}
	}
	return nil
}

func TestPodStatusKeepsWhatOthersWrote(t *testing.T) {
	gate := corev1.PodConditionType("example.com/gate")
	pod := testPod("Always")
	pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}}
	base := corev1.PodStatus{QOSClass: corev1.PodQOSBurstable, Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: early},
		{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: early},
	}}
	state := podState{pod: pod, podIP: "10.244.0.2", nodeIP: "10.244.255.1", app: []corev1.ContainerStatus{running(true)}}
	got := podStatus(state, base, late)
	if got.QOSClass != corev1.PodQOSBurstable || conditionOf(got, corev1.PodScheduled) == nil {
		t.Errorf("the scheduler's part is gone: %+v", got)
	}
	if c := conditionOf(got, corev1.ContainersReady); c.Status != corev1.ConditionTrue || !c.LastTransitionTime.Equal(&late) {
		t.Errorf("ContainersReady is %+v", c)
	}
	if c := conditionOf(got, corev1.PodReady); c.Status != corev1.ConditionFalse || c.Reason != "ReadinessGatesNotReady" || !c.LastTransitionTime.Equal(&early) {
		t.Errorf("with a closed gate Ready is %+v", c)
	}
	muchLater := metav1.NewTime(late.Add(time.Hour))
	if diff := cmp.Diff(got, podStatus(state, got, muchLater)); diff != "" {
		t.Errorf("the same state gives another status (-first +second):\n%s", diff)
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: gate, Status: corev1.ConditionTrue}}
	if c := conditionOf(podStatus(state, got, muchLater), corev1.PodReady); c.Status != corev1.ConditionTrue || !c.LastTransitionTime.Equal(&muchLater) {
		t.Errorf("with an open gate Ready is %+v", c)
	}
}
