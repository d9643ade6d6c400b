package e2e

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	flagger "flagger.app/flagger/pkg/client/clientset/versioned"
)

// applyWarning applies what warns of deletions, once for all tests.
func (t *team) applyWarning() {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(os.Getenv("ROOT"), "artifacts/flagger/deletion-warning.yaml"))
	t.must(err)
	for _, document := range bytes.Split(raw, []byte("\n---\n")) {
		u := &unstructured.Unstructured{}
		t.must(yaml.Unmarshal(document, &u.Object))
		resource := map[string]string{
			"ValidatingAdmissionPolicy": "validatingadmissionpolicies", "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
		}[u.GetKind()]
		policies := t.dynamic.Resource(schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: resource})
		_, err := policies.Create(t.Context(), u, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		if !apierrors.IsAlreadyExists(err) {
			t.must(err)
		}
	}
}

// warnings are those that a client is sent.
type warnings struct{ texts []string }

func (w *warnings) HandleWarningHeader(_ int, _, text string) { w.texts = append(w.texts, text) }

// deletionWarnings deletes the Canary, or only tries, and returns what the client is warned of.
func (t *team) deletionWarnings(name string, options metav1.DeleteOptions) []string {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	t.must(err)
	seen := &warnings{}
	config.WarningHandler = rest.WarningHandler(seen)
	client, err := flagger.NewForConfig(config)
	t.must(err)
	t.must(client.FlaggerV1beta1().Canaries(t.ns).Delete(t.Context(), name, options))
	return seen.texts
}

// TestDeletionIsWarnedOf deletes Canaries that serve as kubectl delete would.
func TestDeletionIsWarnedOf(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.applyWarning()
	t.apply(podinfo(1))
	t.available("podinfo")
	t.create(canary())
	dryRun := metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	if got := t.deletionWarnings("podinfo", dryRun); len(got) > 0 {
		t.Errorf("warned of one that does not serve: %q", got)
	}
	t.operate()
	t.settled(v1beta1.CanaryPhaseInitialized)
	// A policy is in force some time after it was created.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []string
	for got = t.deletionWarnings("podinfo", dryRun); len(got) == 0 && ctx.Err() == nil; got = t.deletionWarnings("podinfo", dryRun) {
		letPass(200 * time.Millisecond)
	}
	remedy := "kubectl -n " + t.ns + ` patch canary podinfo --type merge -p '{"spec":{"revertOnDeletion":true}}'`
	if len(got) != 1 || !strings.Contains(got[0], "Deployment podinfo stays without pods") || !strings.Contains(got[0], remedy) {
		t.Fatalf("warned of %q, want %q", got, remedy)
	}
	t.Logf("%s", got[0])

	t.edit(func(s *v1beta1.CanarySpec) { s.RevertOnDeletion = true })
	if got := t.deletionWarnings("podinfo", dryRun); len(got) > 0 {
		t.Errorf("warned of one that is given back: %q", got)
	}
	t.until("the finalizer", func(c *v1beta1.Canary) bool { return len(c.Finalizers) == 1 })
	t.edit(func(s *v1beta1.CanarySpec) { s.RevertOnDeletion = false })
	t.until("no finalizer", func(c *v1beta1.Canary) bool { return len(c.Finalizers) == 0 })
	if got := t.deletionWarnings("podinfo", metav1.DeleteOptions{}); len(got) != 1 {
		t.Errorf("the deletion was warned of %q", got)
	}
}

// TestDeletionWithoutLossIsNotWarnedOf deletes Canaries whose target or primary is the user's own and stays as it is.
func TestDeletionWithoutLossIsNotWarnedOf(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.applyWarning()
	lossy, service, own := canary(), canary(), canary()
	service.Name, service.Spec.TargetRef = "service", v1beta1.LocalObjectReference{APIVersion: "v1", Kind: "Service", Name: "podinfo"}
	own.Name, own.Spec.PrimaryRef = "own", &v1beta1.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "podinfo-stable"}
	own.Spec.RouteRef = &v1beta1.LocalObjectReference{APIVersion: "networking.istio.io/v1", Kind: "VirtualService", Name: "podinfo"}
	own.Spec.Service.PrimaryName, own.Spec.Service.CanaryName = "podinfo-stable", "podinfo"
	canaries := t.flagger.FlaggerV1beta1().Canaries(t.ns)
	warned := map[string]int{}
	for _, c := range []*v1beta1.Canary{lossy, service, own} {
		t.create(c)
		_, err := canaries.Patch(t.Context(), c.Name, types.MergePatchType, []byte(`{"status":{"phase":"Succeeded"}}`), metav1.PatchOptions{}, "status")
		t.must(err)
	}
	// A policy is in force some time after it was created.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for warned["podinfo"] == 0 && ctx.Err() == nil {
		for _, name := range []string{"podinfo", "service", "own"} {
			warned[name] = len(t.deletionWarnings(name, metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}))
		}
	}
	if diff := cmp.Diff(map[string]int{"podinfo": 1, "service": 0, "own": 0}, warned); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestDeletionIsRevertedByDefault runs the operator with -revert-on-deletion: a Canary that does not say otherwise is given back.
func TestDeletionIsRevertedByDefault(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(1))
	t.available("podinfo")
	t.operate("-revert-on-deletion")
	t.create(canary())
	c := t.settled(v1beta1.CanaryPhaseInitialized)
	if len(c.Finalizers) != 1 || c.Spec.RevertOnDeletion {
		t.Errorf("finalizers %v, revertOnDeletion %t", c.Finalizers, c.Spec.RevertOnDeletion)
	}
	t.deleteCanary()
	t.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "podinfo")
	t.gone(deployments, "podinfo-primary")
	if n, _ := t.replicas("podinfo"); n != 1 || t.selects()["app"] != "podinfo" {
		t.Errorf("the target has %d replicas, the Service selects %v", n, t.selects())
	}
}

// TestNamespaceThatGoesAway deletes a namespace with a Canary in it that would be given back: what it is given back to goes at
// the same time, and nothing new can be created.
func TestNamespaceThatGoesAway(tt *testing.T) {
	tt.Parallel()
	for name, running := range map[string]bool{"at rest": false, "under way": true} {
		tt.Run(name, func(tt *testing.T) {
			tt.Parallel()
			t := newTeam(tt)
			t.apply(podinfo(1))
			t.available("podinfo")
			t.operate()
			t.create(canary(revertOnDeletion))
			t.settled(v1beta1.CanaryPhaseInitialized)
			if running {
				t.ship(v2)
				t.until("an analysis", func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight > 0 })
			}
			began := time.Now()
			t.must(t.kube.CoreV1().Namespaces().Delete(t.Context(), t.ns, metav1.DeleteOptions{}))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for {
				_, err := t.kube.CoreV1().Namespaces().Get(ctx, t.ns, metav1.GetOptions{})
				if apierrors.IsNotFound(err) {
					break
				}
				if err != nil {
					c, _ := t.flagger.FlaggerV1beta1().Canaries(t.ns).Get(context.Background(), "podinfo", metav1.GetOptions{})
					t.Fatalf("the namespace is still there: %v\n%+v", err, c)
				}
				letPass(200 * time.Millisecond)
			}
			t.Logf("gone after %s", time.Since(began).Round(time.Second))
		})
	}
}
