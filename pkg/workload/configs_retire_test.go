package workload

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// owned lists what a cache has of a Canary's objects.
func (b *bench) owned(c *v1beta1.Canary) func(router.Ref) []*unstructured.Unstructured {
	return func(ref router.Ref) []*unstructured.Unstructured {
		list, err := b.client.Resource(ref.Resource).Namespace("test").List(b.Context(), metav1.ListOptions{})
		if err != nil {
			b.Fatal(err)
		}
		var all []*unstructured.Unstructured
		for i := range list.Items {
			if owner := metav1.GetControllerOf(&list.Items[i]); owner != nil && owner.UID == c.UID {
				all = append(all, Summarize(&list.Items[i]))
			}
		}
		return all
	}
}

// retire deletes what it may, and returns the names of what it looked at and of what it kept.
func (b *bench) retire(c *v1beta1.Canary) (unused, kept []string) {
	b.Helper()
	refs, err := b.kind.UnusedCopies(c, b.owned(c), b.live())
	if err != nil {
		b.Fatal(err)
	}
	left, err := b.kind.DeleteCopies(b.Context(), c, refs)
	if err != nil {
		b.Fatal(err)
	}
	names := func(refs []router.Ref) (names []string) {
		for _, ref := range refs {
			names = append(names, ref.Name)
		}
		return names
	}
	return names(refs), names(left)
}

// frozenSettings is a cluster whose ConfigMap can't be changed, so that each content gets a copy of its own. Only one earlier
// revision is kept.
func frozenSettings(t *testing.T) *bench {
	t.Helper()
	target := set(t, deploys(t, fromSettings), int64(1), "spec", "revisionHistoryLimit")
	return newBench(t, target, set(t, object(t, settingsYAML), true, "immutable"), object(t, tokenYAML))
}

func (b *bench) copyName() string {
	return "settings-" + digestOf(b.config(configMapKind, "settings")).all[:8] + "-primary"
}

// A copy under a name with a checksum goes when neither the primary nor a stored revision reads it. All others stay.
func TestUnusedCopiesGo(t *testing.T) {
	c := canary()
	b := frozenSettings(t)
	b.promote(c)
	var names []string
	for _, content := range []string{"two", "three", "four"} {
		b.change(content)
		names = append(names, b.copyName())
		b.promote(c)
	}
	foreign := object(t, settingsYAML)
	foreign.SetName("foreign-12345678-primary")
	b.store(configKey{configMapKind, foreign.GetName()}.ref("test"), foreign)
	unused, kept := b.retire(c)
	if diff := cmp.Diff(sorted(names[0], names[1]), sorted(unused...)); diff != "" {
		t.Fatalf("unused (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{names[1]}, kept); diff != "" {
		t.Errorf("kept for the stored revision (-want +got):\n%s", diff)
	}
	for name, want := range map[string]bool{
		names[0]: false, names[1]: true, names[2]: true, "settings-primary": true, "settings": true, foreign.GetName(): true,
	} {
		if got := b.config(configMapKind, name) != nil; got != want {
			t.Errorf("%s exists: %t", name, got)
		}
	}
}

func sorted(names ...string) []string { return slices.Sorted(slices.Values(names)) }

// What others made or use, and what may be in use after all, stays.
func TestCopiesThatStay(t *testing.T) {
	c := canary()
	for name, change := range map[string]func(b *bench, u *unstructured.Unstructured){
		"shared with another Canary": func(_ *bench, u *unstructured.Unstructured) {
			u.SetOwnerReferences(append(u.GetOwnerReferences(), metav1.OwnerReference{Kind: "Canary", Name: "web", UID: "web-uid"}))
		},
		"of an earlier Canary of the name": func(_ *bench, u *unstructured.Unstructured) {
			owners := u.GetOwnerReferences()
			owners[0].UID = "earlier"
			u.SetOwnerReferences(owners)
		},
		"made by Flagger":     func(_ *bench, u *unstructured.Unstructured) { u.SetAnnotations(nil) },
		"changed by somebody": func(_ *bench, u *unstructured.Unstructured) { u.Object["data"] = map[string]any{"a": "other"} },
	} {
		t.Run(name, func(t *testing.T) {
			b := frozenSettings(t)
			b.promote(c)
			b.change("two")
			copied := b.copyName()
			b.promote(c)
			for _, content := range []string{"three", "four"} {
				b.change(content)
				b.promote(c)
			}
			u := b.config(configMapKind, copied)
			change(b, u)
			b.store(configKey{configMapKind, copied}.ref("test"), u)
			b.retire(c)
			if b.config(configMapKind, copied) == nil {
				t.Errorf("%s is gone", copied)
			}
		})
	}
}

// Without the permission to look at stored revisions nothing is deleted; any other error is told.
func TestCopiesStayWhileStoredRevisionsAreUnknown(t *testing.T) {
	c := canary()
	for name, cause := range map[string]error{
		"forbidden": apierrors.NewForbidden(revisionsResource().GroupResource(), "", errors.New("no")),
		"timeout":   apierrors.NewTimeoutError("no", 1),
	} {
		b := frozenSettings(t)
		b.promote(c)
		for _, content := range []string{"two", "three", "four"} {
			b.change(content)
			b.promote(c)
		}
		b.client.PrependReactor("list", "controllerrevisions", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, cause
		})
		refs, err := b.kind.UnusedCopies(c, b.owned(c), b.live())
		if err != nil || len(refs) != 2 {
			t.Fatalf("%s: %v, %v", name, refs, err)
		}
		kept, err := b.kind.DeleteCopies(t.Context(), c, refs)
		if apierrors.IsForbidden(cause) && (err != nil || len(kept) != 2) || apierrors.IsTimeout(cause) && !errors.Is(err, cause) {
			t.Errorf("%s: kept %v, %v", name, kept, err)
		}
		for _, ref := range refs {
			if b.find(ref) == nil {
				t.Errorf("%s: %s is gone", name, ref)
			}
		}
	}
}
