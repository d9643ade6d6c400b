package cluster

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// readyTimeout bounds the start; 3 s is usual, a loaded machine takes longer.
const readyTimeout = 2 * time.Minute

// readyPoll is how often readiness is asked for while starting.
const readyPoll = 50 * time.Millisecond

// waitReady returns when the API server says it is ready and the controller
// manager has made the ServiceAccount without which no pod can be created.
func (c *Cluster) waitReady(ctx context.Context) error {
	client, _, err := c.Client("testbed")
	if err != nil {
		return err
	}
	var last error
	poll := func(ctx context.Context) (bool, error) {
		select {
		case err := <-c.failed:
			return false, err
		default:
		}
		if _, last = client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); last != nil {
			return false, nil
		}
		_, last = client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return last == nil, nil
	}
	err = wait.PollUntilContextTimeout(ctx, readyPoll, readyTimeout, true, poll)
	if wait.Interrupted(err) && ctx.Err() == nil {
		return fmt.Errorf("control plane: %w (%s): %w; logs are in %s", errNotReady, readyTimeout, last, c.logDir())
	}
	return err
}
