package demo

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"flagger.app/flagger/hack/testbed/internal/load"
)

// Limits of the wait for a pod or a route to be ready; a second is usual.
const (
	readyTimeout = 5 * time.Minute
	readyPoll    = 50 * time.Millisecond
)

// waitOperator returns when the operator's pod is ready.
func (c *clusterClient) waitOperator(ctx context.Context) error {
	var state string
	poll := func(ctx context.Context) (bool, error) {
		pods, err := c.client.CoreV1().Pods(c.operatorNamespace).List(ctx, metav1.ListOptions{LabelSelector: c.operatorSelector})
		if err != nil {
			return false, err
		}
		for _, pod := range pods.Items {
			if isReady(pod) {
				return true, nil
			}
			state = describePod(pod)
		}
		return false, nil
	}
	err := wait.PollUntilContextTimeout(ctx, readyPoll, readyTimeout, true, poll)
	if wait.Interrupted(err) && ctx.Err() == nil {
		return fmt.Errorf("the operator is not ready after %s: %s", readyTimeout, state)
	}
	return err
}

func isReady(pod corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// describePod says what keeps a pod from being ready.
func describePod(pod corev1.Pod) string {
	for _, status := range pod.Status.ContainerStatuses {
		if waiting := status.State.Waiting; waiting != nil {
			return fmt.Sprintf("pod %s: %s: %s", pod.Name, waiting.Reason, waiting.Message)
		}
	}
	return fmt.Sprintf("pod %s is in phase %s and not ready", pod.Name, pod.Status.Phase)
}

// waitServed returns when the gateway answers a request with the header, if
// one is given, from a pod that is accepted.
func (d *demo) waitServed(ctx context.Context, header string, accept func(load.Origin) bool) error {
	var last string
	poll := func(ctx context.Context) (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.cfg.URL, nil)
		if err != nil {
			return false, err
		}
		request.Host = host
		if header != "" {
			request.Header.Set(header, "true")
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			last = err.Error()
			return false, nil
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		last = response.Status
		return err == nil && accept(load.PodinfoOrigin(response.Header, body)), nil
	}
	err := wait.PollUntilContextTimeout(ctx, readyPoll, readyTimeout, true, poll)
	if wait.Interrupted(err) && ctx.Err() == nil {
		return fmt.Errorf("podinfo is not served by %s after %s: %s", d.cfg.URL, readyTimeout, last)
	}
	return err
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
