package cluster

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// readyTimeout bounds the start; 3 s is usual, a loaded machine takes longer.
const readyTimeout = 10 * time.Minute

// readyPoll is how often readiness is asked for while starting.
const readyPoll = 50 * time.Millisecond

// check tells what is not ready yet.
type check func(context.Context) error

// serverIsReady checks that the API server has done all that it does on start.
func serverIsReady(client kubernetes.Interface) check {
	return func(ctx context.Context) error {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	}
}

// podsCanBeMade checks that the controller manager works: it has made the
// ServiceAccount without which no pod is let in.
func podsCanBeMade(client kubernetes.Interface) check {
	return func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err
	}
}

// waitFor returns when the check passes or a program has ended.
func (c *Cluster) waitFor(ctx context.Context, isReady check) error {
	var last error
	poll := func(ctx context.Context) (bool, error) {
		select {
		case err := <-c.failed:
			return false, err
		default:
		}
		last = isReady(ctx)
		return last == nil, nil
	}
	err := wait.PollUntilContextTimeout(ctx, readyPoll, readyTimeout, true, poll)
	if wait.Interrupted(err) && ctx.Err() == nil {
		return fmt.Errorf("control plane: not ready after %s: %w; logs are in %s", readyTimeout, last, c.logDir())
	}
	return err
}
