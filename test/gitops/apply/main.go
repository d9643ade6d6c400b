// Command apply reconciles a file of manifests as the kustomize-controller of Flux does, with its own library: again and again, by
// server-side apply, and if it is asked to, waiting each time until all of it is current by the rules of kstatus. It prints what it
// changes, and how its waits end, one line each.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/utils"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "Cluster to apply to.")
	namespace := flag.String("namespace", "", "Namespace of what names none.")
	file := flag.String("file", "", "Manifests. They are read again each time.")
	every := flag.Duration("every", time.Second, "Time between two reconciliations.")
	wait := flag.Bool("wait", false, "Wait each time until all is current.")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, *namespace, *file, *every, *wait); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig, namespace, file string, every time.Duration, wait bool) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	manager, err := managerOf(config)
	if err != nil {
		return err
	}
	changed := edits{}
	for ctx.Err() == nil {
		objects, err := read(file, namespace)
		if err != nil {
			return err
		}
		reconcile(ctx, manager, objects, changed, wait)
		select {
		case <-ctx.Done():
		case <-clock.RealClock{}.After(every):
		}
	}
	return nil
}

func managerOf(config *rest.Config) (*ssa.ResourceManager, error) {
	config.QPS, config.Burst = 100, 200
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	mapper, err := apiutil.NewDynamicRESTMapper(config, transport)
	if err != nil {
		return nil, err
	}
	c, err := client.New(config, client.Options{Mapper: mapper})
	if err != nil {
		return nil, err
	}
	return ssa.NewResourceManager(c, polling.NewStatusPoller(c, mapper, polling.Options{}), owner()), nil
}

// owner is who applies, as the kustomize-controller names itself.
func owner() ssa.Owner {
	return ssa.Owner{Field: "kustomize-controller", Group: "kustomize.toolkit.fluxcd.io"}
}

func read(file, namespace string) ([]*unstructured.Unstructured, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	objects, err := utils.ReadObjects(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, o := range objects {
		if o.GetNamespace() == "" {
			o.SetNamespace(namespace)
		}
	}
	return objects, nil
}

// reconcile says what it did. What fails is tried again the next time, as Flux does it.
func reconcile(ctx context.Context, manager *ssa.ResourceManager, objects []*unstructured.Unstructured, changed edits, wait bool) {
	options := ssa.DefaultApplyOptions()
	// What carries it in the cluster is left alone, whatever the manifest says.
	options.ExclusionSelector = map[string]string{"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}
	changes, err := manager.ApplyAll(ctx, objects, options)
	if err != nil {
		fmt.Println("failed", oneLine(err))
		return
	}
	for _, e := range changes.Entries {
		if e.Action != ssa.UnchangedAction && e.Action != ssa.SkippedAction && changed.anew(ctx, manager.Client(), objects, e.Subject) {
			fmt.Println(e.Action, e.Subject)
		}
	}
	if !wait {
		fmt.Println("applied")
		return
	}
	// The controller of Flux gives a stuck object this long and then reports it.
	err = manager.WaitForSetWithContext(ctx, changes.ToObjMetadataSet(), ssa.WaitOptions{Interval: 200 * time.Millisecond, Timeout: 10 * time.Minute, FailFast: true})
	if err != nil {
		fmt.Println("not current", oneLine(err))
		return
	}
	fmt.Println("current")
}

// edits are when the API server last noted a change by this program, by object. The library compares what it would apply with what it has read
// a moment before, and so it takes what somebody else writes in between for a change of its own.
type edits map[string]string

// anew is whether an object was changed by this program since the last time.
func (e edits) anew(ctx context.Context, c client.Client, objects []*unstructured.Unstructured, subject string) bool {
	for _, o := range objects {
		if utils.FmtUnstructured(o) != subject {
			continue
		}
		live := &unstructured.Unstructured{}
		live.SetGroupVersionKind(o.GroupVersionKind())
		if err := c.Get(ctx, client.ObjectKeyFromObject(o), live); err != nil {
			fmt.Println("failed", oneLine(err))
			return true
		}
		last := e[subject]
		for _, by := range live.GetManagedFields() {
			if by.Manager == owner().Field && by.Operation == metav1.ManagedFieldsOperationApply {
				e[subject] = fmt.Sprint(live.GetUID(), by.Time)
			}
		}
		return e[subject] != last
	}
	return true
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
