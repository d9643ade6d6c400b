// Package memory measures how much memory the caches of the operator take, at their peak and when they are filled. Each
// measurement is one process of its own, made without the race detector, which multiplies memory.
package memory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/controller/cache"
	"flagger.app/flagger/pkg/kube/objects"
	"flagger.app/flagger/pkg/router"
)

// address is the variable with the API server that a measured process fills its caches from.
const address = "FLAGGER_MEMORY_SERVER"

// limit bounds what is resident at the peak, in MiB. The process itself takes about 35, a page and what decoding it takes the rest.
// The container of the operator may have 512.
const limit = 140

// settledLimit bounds what is resident when all is read, in MiB.
const settledLimit = 60

func TestMain(m *testing.M) {
	if os.Getenv(address) == "" {
		os.Exit(m.Run())
	}
	if err := measure(os.Getenv(address)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// measure fills the caches from the server at a URL or of a kubeconfig, and prints what that took.
func measure(url string) error {
	cfg := &rest.Config{Host: url}
	if !strings.Contains(url, "://") {
		var err error
		if cfg, err = clientcmd.BuildConfigFromFlags("", url); err != nil {
			return err
		}
	}
	cfg.QPS, cfg.Burst = 1000, 1000
	client, err := objects.NewForConfig(cfg)
	if err != nil {
		return err
	}
	outlines, err := metadata.NewForConfig(cfg)
	if err != nil {
		return err
	}
	served, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return err
	}
	woken := make(chan struct{}, 100)
	cluster := cache.NewCluster(cache.Config{
		Client: client, Metadata: outlines, Discovery: served, Clock: clock.RealClock{},
		OnEvent: func(cache.Event) {},
		OnState: func(schema.GroupVersionResource, []string) { woken <- struct{}{} },
	})
	ctx, stop := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	defer wait.Wait()
	defer stop()
	cluster.Start(ctx, &wait)
	for _, resource := range []string{"secrets", "configmaps"} {
		for {
			state, reason := cluster.Ensure(corev1.SchemeGroupVersion.WithResource(resource), "")
			if state == cache.Synced {
				break
			}
			if reason != "" {
				return errors.New(reason)
			}
			<-woken
		}
	}
	if err := complete(cluster); err != nil {
		return err
	}
	peak, err := resident("VmHWM")
	if err != nil {
		return err
	}
	debug.FreeOSMemory()
	settled, err := resident("VmRSS")
	fmt.Printf("peak %d settled %d\n", peak, settled)
	return err
}

// complete checks that all objects can be told from those that do not exist.
func complete(cluster *cache.Cluster) error {
	for _, o := range all() {
		ref := router.Ref{Resource: corev1.SchemeGroupVersion.WithResource(o.resource), Namespace: namespace, Name: o.name}
		if u, err := cluster.Get(ref); err != nil || u == nil {
			return fmt.Errorf("%s %s was not read: %w", o.resource, o.name, err)
		}
	}
	ref := router.Ref{Resource: corev1.SchemeGroupVersion.WithResource("secrets"), Namespace: namespace, Name: "none"}
	if u, err := cluster.Get(ref); err != nil || u != nil {
		return fmt.Errorf("a Secret that does not exist was read: %w", err)
	}
	return nil
}

// resident reads a line of the status of this process, in MiB.
func resident(field string) (int, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(field + `:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		return 0, fmt.Errorf("no %s in /proc/self/status", field)
	}
	kib, err := strconv.Atoi(string(found[1]))
	return kib >> 10, err
}

// A cluster may hold many times the memory of the operator in Secrets and ConfigMaps.
func TestCachesFillWithinTheirMemory(t *testing.T) {
	for name, streams := range map[string]bool{"server that lists": false, "server that streams": true} {
		t.Run(name, func(t *testing.T) {
			within(t, serve(t, streams).URL)
		})
	}
}

// within measures a process that fills its caches from a server.
func within(t *testing.T, server string, env ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	process := exec.CommandContext(ctx, os.Args[0])
	process.Env = append(append(os.Environ(), address+"="+server), env...)
	process.Stderr = os.Stderr
	out, err := process.Output()
	if err != nil {
		t.Fatal(err)
	}
	var peak, settled int
	if _, err := fmt.Sscanf(string(out), "peak %d settled %d", &peak, &settled); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	t.Logf("%d MiB at the peak, %d MiB when all is read", peak, settled)
	if peak > limit || settled > settledLimit {
		t.Errorf("%d MiB at the peak and %d MiB when all is read, may be %d and %d", peak, settled, limit, settledLimit)
	}
}
