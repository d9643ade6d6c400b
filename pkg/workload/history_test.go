package workload

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

func deletePrimary(t *testing.T, client *fake.FakeDynamicClient) {
	t.Helper()
	if err := client.Resource(deploymentKind().resource).Namespace("test").Delete(t.Context(), "podinfo-primary",
		metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestA08_DeletedPrimaryComesBackAtThePromotedRevision(t *testing.T) {
	client, d := cluster(target(t))
	ensure(t, d, canary(), target(t))
	before := get(t, client, "podinfo-primary")
	deletePrimary(t, client)
	// The revision that the target has by now failed, and was scaled away.
	put(t, client, set(t, withImage(t, target(t), "podinfo:failed"), int64(0), "spec", "replicas"))

	ensure(t, d, canary(), target(t))
	if diff := cmp.Diff(before.Object, get(t, client, "podinfo-primary").Object); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
}

func TestA08_DeletedPrimaryGetsItsReplicasBack(t *testing.T) {
	client, d := cluster(target(t))
	ensure(t, d, canary(), target(t))
	deletePrimary(t, client)
	parked := set(t, target(t), int64(0), "spec", "replicas")
	put(t, client, parked)
	ensure(t, d, canary(), parked)
	if got := intAt(get(t, client, "podinfo-primary").Object, 0, "spec", "replicas"); got != 3 {
		t.Errorf("spec.replicas = %d, want the 3 of the promotion", got)
	}
}

// A stored revision of one target is nothing to make the primary of another one from.
func TestRevisionOfAPreviousTargetIsNotUsed(t *testing.T) {
	previous, other := target(t), withImage(t, target(t), "podinfo:other")
	other.SetName("other")
	client, d := cluster(previous, other)
	ensure(t, d, canary(), previous)
	c, promoted := canary(), revisionOf(t, previous)
	c.Spec.TargetRef.Name = "other"
	c.Status.Rollout = &v1beta1.RolloutStatus{Promoted: &v1beta1.RevisionRef{Fingerprint: promoted.Fingerprint}}
	before := len(writes(client))
	if err := d.EnsurePrimary(t.Context(), c, promoted); err == nil || !strings.Contains(err.Error(), "nor stored") {
		t.Errorf("error = %v", err)
	}
	if got := writes(client)[before:]; len(got) != 0 {
		t.Errorf("writes = %v", got)
	}
}

func TestA08_LostRevisionSaysWhatToDo(t *testing.T) {
	client, d := cluster(withImage(t, target(t), "podinfo:failed"))
	c, lost := canary(), revisionOf(t, target(t))
	lost.Counter = "4"
	c.Status.Rollout = &v1beta1.RolloutStatus{Promoted: &v1beta1.RevisionRef{Fingerprint: lost.Fingerprint}}
	err := d.EnsurePrimary(t.Context(), c, lost)
	want := "createPrimaryDeployment failed: revision " + lost.Fingerprint + ", which was promoted, is neither what deployment " +
		"podinfo.test is at now nor stored: bring the Deployment back to it, for example by kubectl -n test rollout undo " +
		"deployment/podinfo --to-revision=4, or set status.phase of podinfo.test to nothing to have the primary made from what it is at now"
	if err == nil || errors.Is(err, ErrMoved) || err.Error() != want {
		t.Errorf("error = %v", err)
	}
	if got := writes(client); len(got) != 0 {
		t.Errorf("writes = %v", got)
	}
}

func TestRevisionsOfAnotherCanaryAreNotUsed(t *testing.T) {
	client, d := cluster(target(t))
	ensure(t, d, canary(), target(t))
	deletePrimary(t, client)
	put(t, client, withImage(t, target(t), "podinfo:failed"))
	recreated := canary()
	recreated.UID = "another"
	if err := d.EnsurePrimary(t.Context(), recreated, revisionOf(t, target(t))); !errors.Is(err, ErrMoved) {
		t.Errorf("error = %v, want ErrMoved", err)
	}
}

func TestHistoryIsLimited(t *testing.T) {
	client, d := cluster(target(t))
	var last rollout.Revision
	for i := range 9 {
		next := set(t, withImage(t, target(t), fmt.Sprintf("podinfo:%d", i)), int64(2), "spec", "revisionHistoryLimit")
		put(t, client, next)
		ensure(t, d, canary(), next)
		last = revisionOf(t, next)
	}
	if got, want := storedImages(t, d), []string{"podinfo:6", "podinfo:7", "podinfo:8"}; !cmp.Equal(got, want) {
		t.Errorf("stored = %v, want the present one and two more: %v", got, want)
	}
	// Back to an earlier one: it becomes the newest, and is not stored twice.
	back := set(t, withImage(t, target(t), "podinfo:6"), int64(2), "spec", "revisionHistoryLimit")
	put(t, client, back)
	ensure(t, d, canary(), back)
	if got, want := storedImages(t, d), []string{"podinfo:7", "podinfo:8", "podinfo:6"}; !cmp.Equal(got, want) {
		t.Errorf("stored = %v, want %v", got, want)
	}
	if stored, err := d.history().storedRevision(t.Context(), canary(), last); err != nil || stored == nil {
		t.Errorf("the revision before = %v, %v", stored, err)
	}
}

// A promotion stores its revision by one call as long as no other can have to go. The numbers go on where the status was lost, and what the
// primary runs stays.
func TestHistoryIsReadOnlyWhereItIsFull(t *testing.T) {
	client, d := cluster(target(t))
	c := canary()
	c.Status.Rollout = &v1beta1.RolloutStatus{}
	promote := func(image string) []string {
		t.Helper()
		next := set(t, withImage(t, target(t), image), int64(2), "spec", "revisionHistoryLimit")
		put(t, client, next)
		before := len(client.Actions())
		revision := revisionOf(t, next)
		if err := d.EnsurePrimary(t.Context(), c, revision); err != nil {
			t.Fatal(err)
		}
		c.Status.Rollout.Promoted = &v1beta1.RevisionRef{Fingerprint: revision.Fingerprint, Configs: revision.Configs}
		c.Status.Rollout.Run++
		var verbs []string
		for _, a := range client.Actions()[before:] {
			if a.GetResource() == revisionsResource() {
				verbs = append(verbs, a.GetVerb())
			}
		}
		return verbs
	}
	for i, want := range [][]string{{"create"}, {"create"}, {"create"}, {"list", "create", "delete"}} {
		if got := promote(fmt.Sprintf("podinfo:%d", i)); !cmp.Equal(got, want) {
			t.Errorf("promotion %d: %v, want %v", i, got, want)
		}
	}
	if got, want := promote("podinfo:2"), []string{"list", "get", "update"}; !cmp.Equal(got, want) {
		t.Errorf("back to an earlier one: %v, want %v", got, want)
	}
	if got, want := storedImages(t, d), []string{"podinfo:1", "podinfo:3", "podinfo:2"}; !cmp.Equal(got, want) {
		t.Errorf("stored = %v, want %v", got, want)
	}
	// Somebody takes the status away. What runs is stored with a low number then.
	c.Status.Rollout = &v1beta1.RolloutStatus{}
	promote("podinfo:4")
	c.Status.Rollout.Run = 7
	promote("podinfo:5")
	if got := storedImages(t, d); !slices.Contains(got, "podinfo:4") || got[len(got)-1] != "podinfo:5" {
		t.Errorf("stored = %v, want what was promoted last among them", got)
	}
}

func storedImages(t *testing.T, d *deployment) []string {
	t.Helper()
	list, err := d.history().listRevisions(t.Context(), canary())
	if err != nil {
		t.Fatal(err)
	}
	var images []string
	for _, r := range list {
		images = append(images, imageOf(&unstructured.Unstructured{Object: mapAt(r.Object, "data", "target")}))
	}
	return images
}

func TestPromotionWorksWithTheRoleOfFlagger(t *testing.T) {
	client, d := cluster(target(t))
	client.PrependReactor("*", "controllerrevisions", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(revisionsResource().GroupResource(), "", nil)
	})
	ensure(t, d, canary(), target(t))
	next := withImage(t, target(t), "podinfo:next")
	put(t, client, next)
	ensure(t, d, canary(), next)
	if got := imageOf(get(t, client, "podinfo-primary")); got != "podinfo:next" {
		t.Errorf("image = %s", got)
	}
}

func TestRevisionNameFits(t *testing.T) {
	c := canary()
	c.Name = strings.Repeat("a", 239) + "." + strings.Repeat("b", 12)
	name := revisionName(c, rollout.Revision{Fingerprint: "v2:x"})
	if len(name) > 253 || strings.Contains(name, ".-") {
		t.Errorf("name %q has %d characters", name, len(name))
	}
}

// An authorizer that fails for a moment forbids what the role allows.
func TestRevisionIsStoredInSpiteOfARefusal(t *testing.T) {
	for _, verb := range []string{"list", "create"} {
		client, d := cluster(target(t))
		refused := false
		client.PrependReactor(verb, "controllerrevisions", func(clienttesting.Action) (bool, runtime.Object, error) {
			first := !refused
			refused = true
			return first, nil, apierrors.NewForbidden(revisionsResource().GroupResource(), "", nil)
		})
		ensure(t, d, canary(), target(t))
		stored, err := d.history().storedRevision(t.Context(), canary(), revisionOf(t, target(t)))
		if err != nil || stored == nil || !refused {
			t.Errorf("%s refused once: stored %v, %v", verb, stored, err)
		}
	}
}
