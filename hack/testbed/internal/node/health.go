package node

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"flagger.app/flagger/hack/testbed/internal/node/sandbox"
)

// lastMoment a program has between SIGTERM and SIGKILL at the least.
const lastMoment = 2 * time.Second

// watchHealth starts the probes of a run. The startup probe comes first and
// alone. A probe that demands a restart is sent to unhealthy. Readiness is
// watched until runCtx ends, the others until healthCtx does.
func (w *podWorker) watchHealth(runCtx, healthCtx context.Context, c *container, unhealthy chan<- *corev1.Probe) {
	if c.spec.StartupProbe == nil {
		w.started(runCtx, healthCtx, c, unhealthy)
		return
	}
	go w.watch(healthCtx, c, c.spec.StartupProbe, true, func(err error) bool {
		if err == nil {
			w.started(runCtx, healthCtx, c, unhealthy)
			return false
		}
		w.probeFailed(c, "Startup", err)
		unhealthy <- c.spec.StartupProbe
		return false
	})
}

func (w *podWorker) started(runCtx, healthCtx context.Context, c *container, unhealthy chan<- *corev1.Probe) {
	w.setStarted(c, c.spec.ReadinessProbe == nil)
	if c.spec.ReadinessProbe != nil {
		go w.watch(runCtx, c, c.spec.ReadinessProbe, true, func(err error) bool {
			if w.setReady(c, err == nil) && err != nil {
				w.probeFailed(c, "Readiness", err)
			}
			return true
		})
	}
	if c.spec.LivenessProbe != nil {
		go w.watch(healthCtx, c, c.spec.LivenessProbe, false, func(err error) bool {
			if err == nil {
				return true
			}
			w.probeFailed(c, "Liveness", err)
			unhealthy <- c.spec.LivenessProbe
			return false
		})
	}
}

func (w *podWorker) watch(ctx context.Context, c *container, p *corev1.Probe, eager bool, report func(error) bool) {
	check, err := probeCheck(p.ProbeHandler, w.facts().podIP, c.spec, w.runIn(c))
	if err != nil {
		// A probe that cannot be made fails, at its usual pace.
		check = func(context.Context) error { return err }
	}
	watchProbe(ctx, w.clock, p, eager, check, report)
}

func (w *podWorker) probeFailed(c *container, kind string, err error) {
	w.event(corev1.EventTypeWarning, "Unhealthy", "%s probe of container %s failed: %v", kind, c.spec.Name, err)
}

func (w *podWorker) postStart(ctx context.Context, c *container) error {
	if c.spec.Lifecycle == nil || c.spec.Lifecycle.PostStart == nil {
		return nil
	}
	return w.hook(ctx, c, c.spec.Lifecycle.PostStart)
}

// preStop runs the hook until it is through, the container has ended, or ctx
// is over. A hook that fails stops nothing.
func (w *podWorker) preStop(ctx context.Context, c *container, process *sandbox.Process) {
	if c.spec.Lifecycle == nil || c.spec.Lifecycle.PreStop == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	through := make(chan error, 1)
	go func() { through <- w.hook(ctx, c, c.spec.Lifecycle.PreStop) }()
	select {
	case err := <-through:
		if err != nil {
			w.event(corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: %v", err)
		}
	case <-process.Done():
	case <-ctx.Done():
	}
}

func (w *podWorker) hook(ctx context.Context, c *container, hook *corev1.LifecycleHandler) error {
	switch {
	case hook.Sleep != nil:
		sleep(ctx, w.clock, time.Duration(hook.Sleep.Seconds)*time.Second)
		return nil
	case hook.Exec != nil:
		return execCheck(ctx, hook.Exec.Command, w.runIn(c))
	case hook.HTTPGet != nil:
		check, err := httpCheck(hook.HTTPGet, w.facts().podIP, c.spec)
		if err != nil {
			return err
		}
		return check(ctx)
	}
	return fmt.Errorf("hook of container %s has no handler this node knows (exec, httpGet, sleep)", c.spec.Name)
}
