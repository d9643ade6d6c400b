package workload

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// settled is a cluster whose first revision was promoted, and the Canary that says so.
func settled(t *testing.T) (*bench, *v1beta1.Canary) {
	t.Helper()
	b := newBench(t, deploys(t, fromSettings), object(t, settingsYAML), object(t, tokenYAML))
	b.promote(canary())
	promoted := b.observe(canary()).Target.Revision
	c := canary()
	c.Status.Rollout = &v1beta1.RolloutStatus{Promoted: &v1beta1.RevisionRef{Fingerprint: promoted.Fingerprint, Configs: promoted.Configs}}
	return b, c
}

// refusePrimary makes every later update of the primary fail, as a quota does.
func (b *bench) refusePrimary() {
	b.client.PrependReactor("update", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("quota")
	})
}

func (b *bench) drop(ref router.Ref) {
	b.Helper()
	if err := b.client.Resource(ref.Resource).Namespace("test").Delete(b.Context(), ref.Name, metav1.DeleteOptions{}); err != nil {
		b.Fatal(err)
	}
}

func copyRef() router.Ref { return configKey{configMapKind, "settings-primary"}.ref("test") }

func (b *bench) changedCopies(c *v1beta1.Canary) []ChangedCopy {
	b.Helper()
	changed, err := b.kind.ChangedCopies(c, b.live())
	if err != nil {
		b.Fatal(err)
	}
	return changed
}

// content of the copy that the primary reads.
func (b *bench) primaryReads(c *v1beta1.Canary) string {
	b.Helper()
	for key := range mandatory(mapAt(b.primaryOf(c).Object, podSpecPath()...)) {
		if u := b.config(key.kind, key.name); key.kind == configMapKind && u != nil {
			return stringAt(u.Object, "data", "a")
		}
	}
	return ""
}

// A promotion that changed the copies and did not get to the primary leaves it what it needs: for its pods, and for a primary
// that has to be rebuilt.
func TestIncidentB17_CopiesOutliveAPromotionThatIsCutShort(t *testing.T) {
	for name, source := range map[string]string{"taken back": "one", "moved on": "three"} {
		b, c := settled(t)
		b.refusePrimary()
		b.change("two")
		if err := b.kind.EnsurePrimary(t.Context(), c, b.observe(c).Target.Revision); err == nil {
			t.Fatal("the promotion was not refused")
		}
		b.change(source)
		want := []ChangedCopy{{Ref: copyRef(), Source: configKey{configMapKind, "settings"}.ref("test"), Restorable: true}}
		if diff := cmp.Diff(want, b.changedCopies(c)); diff != "" {
			t.Errorf("%s: changed (-want +got):\n%s", name, diff)
		}
		if err := b.kind.RestoreCopies(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if got := b.primaryReads(c); got != "one" {
			t.Errorf("%s: the primary reads %q", name, got)
		}
		if changed := b.changedCopies(c); len(changed) != 0 {
			t.Errorf("%s: still changed: %v", name, changed)
		}
		if annotations := b.config(configMapKind, "settings-primary").GetAnnotations(); annotations[copyOfAnnotation] != "settings" {
			t.Errorf("%s: the copy is one of %v", name, annotations)
		}
		b.client.ClearActions()
		if err := b.kind.RestoreCopies(t.Context(), c); err != nil || len(writes(b.client)) != 0 {
			t.Errorf("%s: done twice it writes %v, %v", name, writes(b.client), err)
		}
	}
}

func TestIncidentB17_RebuiltPrimaryHasThePromotedContent(t *testing.T) {
	b, c := settled(t)
	promoted := b.observe(c).Target.Revision
	b.refusePrimary()
	b.change("two")
	_ = b.kind.EnsurePrimary(t.Context(), c, b.observe(c).Target.Revision)
	b.drop(deploymentKind().ref("test", "podinfo-primary"))
	if err := b.kind.EnsurePrimary(t.Context(), c, promoted); err != nil {
		t.Fatal(err)
	}
	if got := b.primaryReads(c); got != "one" {
		t.Errorf("the primary reads %q", got)
	}
	if changed := b.changedCopies(c); len(changed) != 0 {
		t.Errorf("changed: %v", changed)
	}
}

// What somebody did to a copy is found out, and undone if that is possible.
func TestIncidentB17_CopiesAreRestored(t *testing.T) {
	evil := func(b *bench) {
		b.store(copyRef(), set(b.T, b.config(configMapKind, "settings-primary").DeepCopy(), "evil", "data", "a"))
	}
	deleted := func(b *bench) { b.drop(copyRef()) }
	for name, tt := range map[string]struct {
		change     func(b *bench)
		source     string
		gone       bool
		restorable bool
		reads      string
	}{
		"edited":                              {evil, "one", false, true, "one"},
		"deleted":                             {deleted, "one", true, true, "one"},
		"edited, and the source moved on":     {evil, "failed", false, false, "evil"},
		"deleted, and the source moved on":    {deleted, "failed", true, false, ""},
		"edited to what can't be changed":     {func(b *bench) { evil(b); freeze(b) }, "one", false, false, "evil"},
		"edited, and given to another Canary": {func(b *bench) { evil(b); giveAway(b) }, "one", false, false, "evil"},
	} {
		t.Run(name, func(t *testing.T) {
			b, c := settled(t)
			b.change(tt.source)
			tt.change(b)
			want := []ChangedCopy{{Ref: copyRef(), Source: configKey{configMapKind, "settings"}.ref("test"), Gone: tt.gone, Restorable: tt.restorable}}
			if diff := cmp.Diff(want, b.changedCopies(c)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if err := b.kind.RestoreCopies(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if got := b.primaryReads(c); got != tt.reads {
				t.Errorf("the primary reads %q, want %q", got, tt.reads)
			}
		})
	}
}

func freeze(b *bench) {
	b.store(copyRef(), set(b.T, b.config(configMapKind, "settings-primary").DeepCopy(), true, "immutable"))
}

func giveAway(b *bench) {
	u := b.config(configMapKind, "settings-primary").DeepCopy()
	u.SetOwnerReferences(append(u.GetOwnerReferences(), metav1.OwnerReference{Kind: "Canary", Name: "web", UID: "web-uid"}))
	b.store(copyRef(), u)
}

// Where there is no record, or one about another template, nobody knows what the copies should have.
func TestCopiesOfAPrimaryWithoutARecordAreLeftAlone(t *testing.T) {
	b, c := settled(t)
	b.drop(copyRef())
	primary := b.primaryOf(c).DeepCopy()
	primary.SetAnnotations(nil)
	b.store(deploymentKind().ref("test", "podinfo-primary"), primary)
	if changed := b.changedCopies(c); len(changed) != 0 {
		t.Errorf("changed: %v", changed)
	}
}

// What was kept stays as long as a stored revision refers to it, and a role that allows no more than Flagger needs is enough.
func TestKeptCopies(t *testing.T) {
	b, c := settled(t)
	kept := b.copyName()
	b.change("two")
	b.promote(c)
	unused, left := b.retire(c)
	if diff := cmp.Diff([][]string{{kept}, {kept}}, [][]string{unused, left}); diff != "" {
		t.Errorf("unused and left (-want +got):\n%s", diff)
	}
	b.client.PrependReactor("create", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(configMapsResource().GroupResource(), "", errors.New("exceeded quota"))
	})
	b.change("three")
	b.promote(c)
	if got := b.primaryReads(c); got != "three" {
		t.Errorf("the primary reads %q", got)
	}
}
