package workload

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
)

const (
	// pausedPrefix begins the annotations with which KEDA is told to leave a workload alone.
	pausedPrefix = "autoscaling.keda.sh/paused"
	// pausedAnnotation on the ScaledObject of a target holds its pods at the number in it.
	pausedAnnotation = "autoscaling.keda.sh/paused-replicas"
	// atZero and atOne are the numbers that we put there.
	atZero, atOne = "0", "1"
	// kedaOwnPrefix begins the labels that KEDA itself puts on a ScaledObject, with its name in them.
	kedaOwnPrefix = "scaledobject.keda.sh/"
)

func (s scaler) ref(namespace, name string) router.Ref {
	return router.Ref{Resource: s.resource, Kind: s.kind, Namespace: namespace, Name: name}
}

// scalerOf finds the kind of the autoscaler of a Canary, nil if it has none that is known.
func scalerOf(c *v1beta1.Canary) *scaler {
	if c.Spec.AutoscalerRef == nil {
		return nil
	}
	for _, s := range scalers() {
		if s.kind == c.Spec.AutoscalerRef.Kind {
			return &s
		}
	}
	return nil
}

// ScalerResources lists what has to be watched for the autoscaler of a Canary.
func ScalerResources(c *v1beta1.Canary) []router.Ref {
	if s := scalerOf(c); s != nil {
		return []router.Ref{s.ref("", "")}
	}
	return nil
}

// PrimaryScaler returns the autoscaler that the primary of a Canary should have: the one of the target, with every field of
// its spec, pointed at the primary. It reads nothing but live. The result is nil for a Canary without autoscalerRef, or with a primary of the user's, whose
// autoscaler is the user's as well.
func PrimaryScaler(c *v1beta1.Canary, live router.Live) ([]router.Object, *rollout.Problem) {
	s := scalerOf(c)
	if s == nil || c.HasOwnPrimary() {
		return nil, nil
	}
	source, problem := targetScaler(c, s, live)
	if problem != nil {
		return nil, problem
	}
	ref := s.ref(c.Namespace, c.Spec.AutoscalerRef.Name+v1beta1.PrimarySuffix)
	present, err := live.Get(ref)
	if err != nil {
		return nil, scalerUnreadable(ref, err)
	}
	if present != nil {
		if owner := metav1.GetControllerOf(present); owner != nil && !ownedBy(c, owner) {
			return nil, invalid("spec.autoscalerRef.name: %s, which would scale the primary, belongs to %s %s: use an autoscaler of "+
				"another name", ref, owner.Kind, owner.Name)
		}
	}
	spec, _ := withoutNulls(mapAt(source.Object, "spec")).(map[string]any)
	if spec == nil {
		return nil, invalid("spec.autoscalerRef: %s has no spec", s.ref(c.Namespace, source.GetName()))
	}
	s.point(c, spec)
	if rollout.KeepsPrimaryUp(c.Status.Phase) {
		s.keepUp(spec)
	}
	wanted := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	wanted.SetLabels(kept(source.GetLabels(), func(key string) bool {
		return copiesPodKey(key) && !strings.HasPrefix(key, kedaOwnPrefix)
	}))
	if s.pausable {
		wanted.SetAnnotations(kept(source.GetAnnotations(), func(key string) bool {
			return copiesKey(key) && !strings.HasPrefix(key, pausedPrefix)
		}))
	}
	return []router.Object{{Ref: ref, Wanted: wanted, Owned: [][]string{{"spec"}}}}, nil
}

// TargetScaler tells what the autoscaler of a target does about one that has no pods, or no work.
func TargetScaler(c *v1beta1.Canary, live router.Live) rollout.ScalerFact {
	s := scalerOf(c)
	if s == nil {
		return rollout.ScalerFact{}
	}
	fact := rollout.ScalerFact{Pausable: s.pausable}
	source, problem := targetScaler(c, s, live)
	if problem != nil {
		return fact
	}
	fact.AdmitsZero = s.admitsZero(source.Object)
	if !s.pausable {
		return fact
	}
	number, told := source.GetAnnotations()[pausedAnnotation]
	fact.Held = told && number == atOne
	fact.Paused = told && !fact.Held
	return fact
}

func targetScaler(c *v1beta1.Canary, s *scaler, live router.Live) (*unstructured.Unstructured, *rollout.Problem) {
	ref := s.ref(c.Namespace, c.Spec.AutoscalerRef.Name)
	source, err := live.Get(ref)
	if err != nil {
		return nil, scalerUnreadable(ref, err)
	}
	if source == nil {
		return nil, &rollout.Problem{
			Reason: rollout.ReasonScalerNotFound,
			Message: fmt.Sprintf("%s get query error: %s %q not found: create it or correct spec.autoscalerRef",
				ref, s.resource.GroupResource(), ref.Name),
		}
	}
	return source, nil
}

func scalerUnreadable(ref router.Ref, err error) *rollout.Problem {
	return &rollout.Problem{
		Reason: rollout.ReasonReadFailed, Unknown: true, Message: fmt.Sprintf("%s get query error: %v", ref, err),
	}
}

func ownedBy(c *v1beta1.Canary, owner *metav1.OwnerReference) bool {
	return owner.UID == c.UID || owner.Kind == "Canary" && owner.Name == c.Name
}

func kept(from map[string]string, keep func(string) bool) map[string]string {
	out := maps.Clone(from)
	maps.DeleteFunc(out, func(key, _ string) bool { return !keep(key) })
	if len(out) == 0 {
		return nil
	}
	return out
}

// point makes the spec of an autoscaler, which is changed in place, scale the primary.
func (s *scaler) point(c *v1beta1.Canary, spec map[string]any) {
	if target := mapAt(spec, "scaleTargetRef"); target != nil {
		target["name"] = PrimaryName(c)
	}
	if bounds := c.Spec.AutoscalerRef.PrimaryScalerReplicas; bounds != nil {
		if bounds.MinReplicas != nil {
			spec[s.min[len(s.min)-1]] = int64(*bounds.MinReplicas)
		}
		if bounds.MaxReplicas != nil {
			spec[s.max[len(s.max)-1]] = int64(*bounds.MaxReplicas)
		}
	}
	if s.pausable {
		renameHPA(spec)
		pointQueries(c, spec)
	}
}

// renameHPA keeps the HorizontalPodAutoscalers apart that KEDA makes for target and primary. The field is written even when
// empty, as Flagger does, so that a takeover writes nothing.
func renameHPA(spec map[string]any) {
	advanced := mapAt(spec, "advanced")
	if advanced == nil {
		advanced = map[string]any{}
		spec["advanced"] = advanced
	}
	config := mapAt(advanced, "horizontalPodAutoscalerConfig")
	if config == nil {
		config = map[string]any{}
		advanced["horizontalPodAutoscalerConfig"] = config
	}
	if name := stringAt(config, "name"); name != "" {
		config["name"] = name + v1beta1.PrimarySuffix
	}
}

// pointQueries makes triggers look at the primary: by the queries of the Canary, or else by its name in place of the target's.
func pointQueries(c *v1beta1.Canary, spec map[string]any) {
	target, primary := c.Spec.TargetRef.Name, PrimaryName(c)
	names := strings.NewReplacer(target+v1beta1.CanarySuffix, primary, primary, primary, target, primary)
	queries := c.Spec.AutoscalerRef.PrimaryScalerQueries
	for _, trigger := range mapsAt(spec, "triggers") {
		metadata := mapAt(trigger, "metadata")
		if metadata == nil {
			continue
		}
		if queries != nil {
			if query, ok := queries[stringAt(trigger, "name")]; ok {
				metadata["query"] = query
			}
			continue
		}
		if query, ok := metadata["query"].(string); ok {
			metadata["query"] = names.Replace(query)
		}
	}
}

// PreviousScaler names an autoscaler that the Canary does not refer to any more, and its copy for the primary. It reports false
// for the present one and for kinds that are not known.
func PreviousScaler(c *v1beta1.Canary, previous v1beta1.ScalerRef) (source, copied router.Ref, ok bool) {
	if ref := c.Spec.AutoscalerRef; ref != nil && ref.Kind == previous.Kind && ref.Name == previous.Name {
		return router.Ref{}, router.Ref{}, false
	}
	for _, s := range scalers() {
		if s.kind == previous.Kind {
			return s.ref(c.Namespace, previous.Name), s.ref(c.Namespace, previous.Name+v1beta1.PrimarySuffix), true
		}
	}
	return router.Ref{}, router.Ref{}, false
}

// HoldsAtZero is whether an autoscaler is told, as ScaleToZero does, to leave its workload without pods.
func HoldsAtZero(scaler *unstructured.Unstructured) bool {
	return annotationAt(scaler, pausedAnnotation) == atZero
}

// ScalesPrimary is whether an autoscaler was made for the primary of this Canary.
func ScalesPrimary(c *v1beta1.Canary, scaler *unstructured.Unstructured) bool {
	return router.Owns(c, scaler) && stringAt(mapAt(scaler.Object, "spec", "scaleTargetRef"), "name") == PrimaryName(c)
}

// RetireOtherScalers deletes the autoscalers of the primary that an earlier kind of autoscalerRef left behind.
func RetireOtherScalers(ctx context.Context, client dynamic.Interface, c *v1beta1.Canary) error {
	present := scalerOf(c)
	if present == nil {
		return nil
	}
	name := c.Spec.AutoscalerRef.Name + v1beta1.PrimarySuffix
	for _, s := range scalers() {
		if s.kind == present.kind {
			continue
		}
		resource := client.Resource(s.resource).Namespace(c.Namespace)
		old, err := resource.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s get query error: %w", s.ref(c.Namespace, name), err)
		}
		if owner := metav1.GetControllerOf(old); owner == nil || !ownedBy(c, owner) {
			continue
		}
		uid := old.GetUID()
		err = resource.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("%s delete error: %w", s.ref(c.Namespace, name), err)
		}
	}
	return nil
}

// PauseScaler makes the autoscaler of a target leave it at zero pods, resumeScaler takes that back. A
// HorizontalPodAutoscaler does so by itself.
func PauseScaler(ctx context.Context, client dynamic.Interface, c *v1beta1.Canary) error {
	return setPaused(ctx, client, c, atZero)
}

// HoldTarget makes the autoscaler of a target leave it the one pod that it gets. KEDA knows no lower bound that is not in the spec
// of its user.
func (d *deployment) HoldTarget(ctx context.Context, c *v1beta1.Canary) error {
	name := c.Spec.TargetRef.Name
	if err := setPaused(ctx, d.client, c, atOne); err != nil {
		return fmt.Errorf("scaling up %s.%s failed: %w", name, c.Namespace, err)
	}
	return d.fromZero(ctx, c, name)
}

// RaisePrimary gives a primary without pods one.
func (d *deployment) RaisePrimary(ctx context.Context, c *v1beta1.Canary) error {
	return d.fromZero(ctx, c, PrimaryName(c))
}

// fromZero gives a workload without pods one.
func (d *deployment) fromZero(ctx context.Context, c *v1beta1.Canary, name string) error {
	obj, err := d.get(ctx, c.Namespace, name)
	if err != nil || obj == nil || !d.counted || intAt(obj.Object, 1, "spec", "replicas") > 0 {
		return err
	}
	return d.patch(ctx, c, name, map[string]any{"spec": map[string]any{"replicas": int64(1)}})
}

func resumeScaler(ctx context.Context, client dynamic.Interface, c *v1beta1.Canary) error {
	return setPaused(ctx, client, c, nil)
}

// ResumePreviousScaler takes back that an autoscaler, which no Canary refers to any more, leaves its workload without pods. A
// number of pods that somebody else has told it stays.
func ResumePreviousScaler(ctx context.Context, client dynamic.Interface, ref router.Ref) error {
	obj, err := getScaler(ctx, client, ref)
	if err != nil || obj == nil || !HoldsAtZero(obj) {
		return err
	}
	// Whoever writes a number of his own right now comes first.
	return patchPaused(ctx, client, ref, nil, obj.GetResourceVersion())
}

// setPaused changes the one annotation that is ours, where it differs.
func setPaused(ctx context.Context, client dynamic.Interface, c *v1beta1.Canary, value any) error {
	s := scalerOf(c)
	if s == nil || !s.pausable {
		return nil
	}
	ref := s.ref(c.Namespace, c.Spec.AutoscalerRef.Name)
	obj, err := getScaler(ctx, client, ref)
	if err != nil || obj == nil {
		return err
	}
	present, paused := obj.GetAnnotations()[pausedAnnotation]
	if value == nil && !paused || paused && value == present {
		return nil
	}
	return patchPaused(ctx, client, ref, value, "")
}

// getScaler reads an autoscaler from the server, nil if there is none: what does not exist holds nothing and brings nothing
// back.
func getScaler(ctx context.Context, client dynamic.Interface, ref router.Ref) (*unstructured.Unstructured, error) {
	obj, err := client.Resource(ref.Resource).Namespace(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s get query error: %w", ref, err)
	}
	return obj, nil
}

// patchPaused writes the annotation, if a version is given only to that version of the object.
func patchPaused(ctx context.Context, client dynamic.Interface, ref router.Ref, value any, version string) error {
	metadata := map[string]any{"annotations": map[string]any{pausedAnnotation: value}}
	if version != "" {
		metadata["resourceVersion"] = version
	}
	patch, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return err
	}
	_, err = client.Resource(ref.Resource).Namespace(ref.Namespace).Patch(ctx, ref.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("%s patch error: %w", ref, err)
	}
	return nil
}
