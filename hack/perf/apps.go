package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

const (
	// namespaceSize is how many applications share a namespace. The controllers of Kubernetes look at all ReplicaSets and pods of a
	// namespace for each change in it, so that ten thousand applications in one would measure those.
	namespaceSize = 200
	// nameLength is that of the name of an application. The names of all that belongs to it begin with its name.
	nameLength = len("app-00000")
	// hands is how many calls the benchmark makes at the same time.
	hands = 32
)

// app is an application. No two have the same name, also in different namespaces.
type app struct{ namespace, name string }

func appAt(i int) app { return app{namespaceAt(i / namespaceSize), appName(i)} }

func appName(i int) string { return fmt.Sprintf("app-%05d", i) }

func namespaceAt(i int) string { return fmt.Sprintf("perf-%d", i) }

// appOf is the application that an object belongs to, empty for none.
func appOf(name string) string {
	if !strings.HasPrefix(name, "app-") || len(name) < nameLength {
		return ""
	}
	return name[:nameLength]
}

// each does something for each of n applications, many at the same time, and returns the first error.
func each(n int, do func(app) error) error {
	work, failed := make(chan int), make(chan error, hands)
	var wait sync.WaitGroup
	for range hands {
		wait.Go(func() {
			for i := range work {
				if err := do(appAt(i)); err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wait.Wait()
	close(failed)
	return <-failed
}

// deploy creates an application that reads a ConfigMap, without its Canary.
func (b *bench) deploy(ctx context.Context, a app) error {
	labels := map[string]string{"app": a.name}
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: a.name + "-settings"}, Data: map[string]string{"color": "blue"}}
	if _, err := b.kube.CoreV1().ConfigMaps(a.namespace).Create(ctx, config, metav1.CreateOptions{}); err != nil {
		return err
	}
	replicas := int32(1)
	_, err := b.kube.AppsV1().Deployments(a.namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: a.name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					// Pods that name their node need no scheduler.
					NodeName: nodeName,
					Containers: []corev1.Container{{
						Name: "app", Image: "example.com/app:1",
						Ports:   []corev1.ContainerPort{{Name: "http", ContainerPort: 9898}},
						EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: config.Name}}}},
					}},
				},
			},
		},
	}, metav1.CreateOptions{})
	return err
}

// settled waits until all applications run, so that what the control plane has to do for them is no part of any stage.
func (b *bench) settled(ctx context.Context) error {
	every := time.Second + time.Duration(b.n)*time.Millisecond
	return wait.PollUntilContextTimeout(ctx, every, b.patience(), true, func(ctx context.Context) (bool, error) {
		all, err := b.kube.AppsV1().Deployments(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for i := range all.Items {
			d := &all.Items[i]
			progressing := slices.ContainsFunc(d.Status.Conditions, func(c appsv1.DeploymentCondition) bool {
				return c.Type == appsv1.DeploymentProgressing && c.Reason == "NewReplicaSetAvailable"
			})
			if !progressing || d.Status.ObservedGeneration < d.Generation {
				return false, nil
			}
		}
		return len(all.Items) == b.n, nil
	})
}

// onboard creates the Canary of an application: five steps, ten seconds apart, with the two built-in metrics.
func (b *bench) onboard(ctx context.Context, a app) error {
	low, high := 99.0, 500.0
	_, err := b.flagger.FlaggerV1beta1().Canaries(a.namespace).Create(ctx, &v1beta1.Canary{
		ObjectMeta: metav1.ObjectMeta{Name: a.name},
		Spec: v1beta1.CanarySpec{
			TargetRef: v1beta1.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: a.name},
			Service: v1beta1.CanaryService{
				Port: 9898, TargetPort: intstr.FromString("http"), Hosts: []string{a.name + ".example.com"},
				GatewayRefs: []v1beta1.ParentReference{{Name: "gateway"}}, Headless: b.headless,
			},
			Analysis: &v1beta1.CanaryAnalysis{
				Interval: interval.String(), Threshold: 5, StepWeight: 10, MaxWeight: 50,
				Metrics: []v1beta1.CanaryMetric{
					{Name: "request-success-rate", Interval: "1m", ThresholdRange: &v1beta1.CanaryThresholdRange{Min: &low}},
					{Name: "request-duration", Interval: "1m", ThresholdRange: &v1beta1.CanaryThresholdRange{Max: &high}},
				},
			},
		},
	}, metav1.CreateOptions{})
	return err
}

// ship gives an application a new revision, by number.
func (b *bench) ship(ctx context.Context, a app, revision int) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
		"containers": []any{map[string]any{"name": "app", "image": fmt.Sprintf("example.com/app:%d", revision)}},
	}}}})
	if err != nil {
		return err
	}
	_, err = b.kube.AppsV1().Deployments(a.namespace).Patch(ctx, a.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return err
}
