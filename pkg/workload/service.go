package workload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
)

// coreService is the kind Service of Kubernetes itself. The target leads to pods that somebody else cares for: there is
// nothing to wait for and nothing to scale. Its revision is what a copy of it can have (services.Shared). The primary is a
// copy that changes with a promotion only; the copy that stands for the canary is made with the other Services.
type coreService struct {
	client  dynamic.Interface
	options Options
}

// Observe implements Target.
func (s *coreService) Observe(c *v1beta1.Canary, live router.Live, _ time.Time) (Observation, *rollout.Problem) {
	name := c.Spec.TargetRef.Name
	o := Observation{
		Target:  rollout.Workload{Name: name, Kind: "Service", Unscalable: true, Health: waiting("the Service does not exist")},
		Primary: rollout.Workload{Name: PrimaryName(c), Kind: "Service", Unscalable: true, Health: waiting("the Service does not exist")},
	}
	primary, err := live.Get(services.Ref(c.Namespace, PrimaryName(c)))
	if err != nil {
		return o, serviceReadFailed(c.Namespace, PrimaryName(c), err)
	}
	target, err := live.Get(services.Ref(c.Namespace, name))
	if err != nil {
		return o, serviceReadFailed(c.Namespace, name, err)
	}
	var first problems
	if primary != nil {
		first.add(observeService(&o.Primary, primary))
		o.Primary.Orphaned = orphaned(c, primary)
		first.add(checkOwner(c, primary))
	}
	if target == nil {
		first.add(serviceNotFound(c))
		return o, first.problem
	}
	first.add(observeService(&o.Target, target))
	o.Target.Revision.FlaggerHash = hashForFlagger(fingerprint.FlaggerService(target.Object))
	first.add(checkServiceName(c))
	if err := services.CheckForeignCopy(c, target, primary); err != nil {
		first.add(invalid("%s", err))
	}
	if primary != nil {
		o.Primary.Copy = serviceCopyOf(c, target, primary, o)
		o.Primary.CopyRecorded = recordedCopy(primary, o.Primary.Revision.Fingerprint) != ""
		o.Primary.Edited = edited(primary, o.Primary.Copy)
	}
	return o, first.problem
}

func serviceReadFailed(namespace, name string, err error) *rollout.Problem {
	return &rollout.Problem{
		Reason: rollout.ReasonReadFailed, Unknown: true,
		Message: fmt.Sprintf("service %s.%s get query error: %v", name, namespace, err),
	}
}

func serviceNotFound(c *v1beta1.Canary) *rollout.Problem {
	name := c.Spec.TargetRef.Name
	return &rollout.Problem{
		Reason: rollout.ReasonTargetNotFound,
		Message: fmt.Sprintf("service %s.%s get query error: services %q not found: create the Service or correct "+
			"spec.targetRef.name", name, c.Namespace, name),
	}
}

// observeService fills in what is known of a Service that exists. A Service has no generation, and its UID alone would make
// every change of it look like none.
func observeService(w *rollout.Workload, service *unstructured.Unstructured) *rollout.Problem {
	hash, err := serviceFingerprint(service)
	if err != nil {
		return &rollout.Problem{Reason: rollout.ReasonReadFailed, Message: err.Error(), Unknown: true}
	}
	w.Exists, w.Replicas, w.Available = true, 1, 1
	w.Revision = rollout.Revision{Fingerprint: hash}
	w.Health = rollout.Health{State: rollout.Ready}
	return nil
}

func serviceFingerprint(service *unstructured.Unstructured) (string, error) {
	hash, err := fingerprint.Value(services.Shared(service))
	if err != nil {
		return "", fmt.Errorf("%s: fingerprint: %w", described(service), err)
	}
	return hash, nil
}

// checkServiceName tells of routes that would lead to Services which do not exist: the copies are named after the target.
func checkServiceName(c *v1beta1.Canary) *rollout.Problem {
	if apex := router.NamesOf(c).Apex; apex != c.Spec.TargetRef.Name {
		return invalid("spec.service.name: %s is not the name of the target %s, after which its copies are named: remove it",
			apex, c.Spec.TargetRef.Name)
	}
	return nil
}

// serviceCopyOf finds the revision that the primary was made from: the recorded one, or the present one if the two are
// equal, as they are when Flagger made the primary.
func serviceCopyOf(c *v1beta1.Canary, target, primary *unstructured.Unstructured, o Observation) string {
	if recorded := recordedCopy(primary, o.Primary.Revision.Fingerprint); recorded != "" {
		return recorded
	}
	wanted := services.CopySpec(c, target, primary)
	if reflect.DeepEqual(withoutNulls(wanted), withoutNulls(mapAt(primary.Object, "spec"))) {
		return o.Target.Revision.Fingerprint
	}
	return ""
}

// EnsurePrimary implements Target.
func (s *coreService) EnsurePrimary(ctx context.Context, c *v1beta1.Canary, revision rollout.Revision) error {
	var err error
	for range writeAttempts {
		err = s.ensurePrimary(ctx, c, revision)
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return err
}

func (s *coreService) ensurePrimary(ctx context.Context, c *v1beta1.Canary, revision rollout.Revision) error {
	target, err := s.get(ctx, c, c.Spec.TargetRef.Name)
	if err != nil {
		return err
	}
	if target == nil {
		return errors.New(serviceNotFound(c).Message)
	}
	primary, err := s.get(ctx, c, PrimaryName(c))
	if err != nil {
		return err
	}
	from, err := s.sourceOf(ctx, c, target, primary == nil, revision)
	if err != nil {
		return err
	}
	next, err := s.nextPrimary(c, from, primary, revision)
	if err != nil {
		return err
	}
	if primary != nil && reflect.DeepEqual(withoutNulls(next.Object), withoutNulls(primary.Object)) {
		return nil
	}
	if err := (history{s.client}).storeRevision(ctx, c, source{target: from, revision: revision}); err != nil {
		return err
	}
	return s.write(ctx, c, next, primary == nil)
}

// sourceOf returns the Service at the revision asked for. Only a primary that is missing is made from a stored one.
func (s *coreService) sourceOf(ctx context.Context, c *v1beta1.Canary, target *unstructured.Unstructured, missing bool,
	revision rollout.Revision) (*unstructured.Unstructured, error) {
	hash, err := serviceFingerprint(target)
	if err != nil || hash == revision.Fingerprint {
		return target, err
	}
	if !missing {
		return nil, fmt.Errorf("%s has %s and not %s: %w", described(target), hash, revision.Fingerprint, ErrMoved)
	}
	stored, err := history{s.client}.storedRevision(ctx, c, revision)
	switch {
	case err != nil || stored != nil:
		return stored, err
	case wasPromoted(c, revision):
		return nil, lostRevision(c, target, revision)
	}
	return nil, fmt.Errorf("%s has %s and not %s: %w", described(target), hash, revision.Fingerprint, ErrMoved)
}

// nextPrimary is what the primary should be. A new one gets all labels of the target, as in Flagger; later only those that
// a prefix allows follow.
func (s *coreService) nextPrimary(c *v1beta1.Canary, from, present *unstructured.Unstructured, revision rollout.Revision) (
	*unstructured.Unstructured, error) {
	spec := services.CopySpec(c, from, present)
	next := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{"name": PrimaryName(c), "namespace": c.Namespace},
	}}
	prefixes := []string{"*"}
	if present != nil {
		next, prefixes = present.DeepCopy(), s.options.IncludeLabelPrefix
	}
	next.Object["spec"] = spec
	next.SetLabels(mirroredLabels(next.GetLabels(), from.GetLabels(), prefixes))
	annotations := primaryAnnotations(next.GetAnnotations(), from.GetAnnotations(), prefixes)
	hash, err := serviceFingerprint(next)
	if err != nil {
		return nil, err
	}
	maps.Copy(annotations, map[string]string{promotedRevisionAnnotation: revision.Fingerprint, primaryTemplateAnnotation: hash})
	next.SetAnnotations(annotations)
	own(c, next)
	return next, nil
}

func (s *coreService) write(ctx context.Context, c *v1beta1.Canary, next *unstructured.Unstructured, create bool) error {
	var stored *unstructured.Unstructured
	var err error
	if create {
		stored, err = s.services(c).Create(ctx, next, metav1.CreateOptions{})
	} else {
		// The update carries the resourceVersion that was read, so it fails when anybody wrote in between.
		stored, err = s.services(c).Update(ctx, next, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("updating %s failed: %w", described(next), err)
	}
	hash, err := serviceFingerprint(stored)
	if err != nil || annotationAt(stored, primaryTemplateAnnotation) == hash {
		return err
	}
	// The server stored something else than it was sent: defaults of a newer version, or what a webhook added.
	stored = stored.DeepCopy()
	annotations := stored.GetAnnotations()
	annotations[primaryTemplateAnnotation] = hash
	stored.SetAnnotations(annotations)
	if _, err := s.services(c).Update(ctx, stored, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("updating %s failed: %w", described(next), err)
	}
	return nil
}

// ScaleUp implements Target.
func (s *coreService) ScaleUp(context.Context, *v1beta1.Canary) error { return nil }

// ScaleToZero implements Target.
func (s *coreService) ScaleToZero(context.Context, *v1beta1.Canary) error { return nil }

func (s *coreService) services(c *v1beta1.Canary) dynamic.ResourceInterface {
	return s.client.Resource(services.Ref("", "").Resource).Namespace(c.Namespace)
}

// get reads a Service from the server, nil if there is none.
func (s *coreService) get(ctx context.Context, c *v1beta1.Canary, name string) (*unstructured.Unstructured, error) {
	obj, err := s.services(c).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("service %s.%s get query error: %w", name, c.Namespace, err)
	}
	return obj, nil
}
