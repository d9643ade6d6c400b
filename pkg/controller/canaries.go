package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// canaryResource is read as unstructured objects: one Canary that does not fit our types must not keep all others out of
// the list.
var canaryResource = v1beta1.SchemeGroupVersion.WithResource("canaries")

// Names of the indexes of Canaries.
const (
	byTarget  = "target"
	byService = "service"
	byScaler  = "scaler"
)

// canaries is the store of all Canaries.
type canaries struct {
	client   dynamic.Interface
	written  *written
	informer cache.SharedIndexInformer
	// outdated is set while the API server drops what we write into the status.
	outdated atomic.Bool
}

// errOutdatedCRD is a status that the API server stored without our record of the rollout. A CRD that is older than the
// operator does not know the field: Helm, for one, leaves the CRDs of a chart as they are when it upgrades.
var errOutdatedCRD = errors.New("the CRD canaries.flagger.app is older than this operator and drops status.rollout: " +
	"apply artifacts/flagger/crd.yaml of this version; nothing is rolled out before that")

// errUndecodable is a Canary that does not fit our types.
type errUndecodable struct{ cause error }

func (e errUndecodable) Error() string { return e.cause.Error() }

func newCanaries(client dynamic.Interface, w *written, namespace string, onEvent func(old, current *unstructured.Unstructured)) (*canaries, error) {
	informer := dynamicinformer.NewFilteredDynamicInformer(client, canaryResource, namespace, 0, cache.Indexers{
		byTarget:  indexBy(targetOf),
		byService: indexBy(serviceOf),
		byScaler:  indexBy(scalerOf),
		byTurn:    indexBy(turnOf),
	}, nil).Informer()
	if err := configure(informer, cache.DefaultWatchErrorHandler, onEvent); err != nil {
		return nil, fmt.Errorf("watching canaries: %w", err)
	}
	return &canaries{client: client, written: w, informer: informer}, nil
}

func indexBy(value func(*unstructured.Unstructured) string) cache.IndexFunc {
	return func(item any) ([]string, error) {
		u, ok := item.(*unstructured.Unstructured)
		if !ok {
			return nil, nil
		}
		return []string{value(u)}, nil
	}
}

// targetOf identifies the workload that a Canary rolls out.
func targetOf(u *unstructured.Unstructured) string {
	kind, _, _ := unstructured.NestedString(u.Object, "spec", "targetRef", "kind")
	return strings.Join([]string{u.GetNamespace(), kind, targetNameOf(u)}, "/")
}

// serviceOf identifies the Service that a Canary leads to its primary.
func serviceOf(u *unstructured.Unstructured) string {
	return u.GetNamespace() + "/" + serviceNameOf(u)
}

func serviceNameOf(u *unstructured.Unstructured) string {
	if name, _, _ := unstructured.NestedString(u.Object, "spec", "service", "name"); name != "" {
		return name
	}
	return targetNameOf(u)
}

func targetNameOf(u *unstructured.Unstructured) string {
	name, _, _ := unstructured.NestedString(u.Object, "spec", "targetRef", "name")
	return name
}

// scalerOf identifies the autoscaler that a Canary refers to. A Canary without one shares an entry with all others.
func scalerOf(u *unstructured.Unstructured) string {
	kind, _, _ := unstructured.NestedString(u.Object, "spec", "autoscalerRef", "kind")
	name, _, _ := unstructured.NestedString(u.Object, "spec", "autoscalerRef", "name")
	return strings.Join([]string{u.GetNamespace(), kind, name}, "/")
}

// get returns the newest known state of a Canary, nil if it does not exist. An object that does not fit our types comes
// with an error of type errUndecodable.
func (s *canaries) get(key string) (*v1beta1.Canary, *unstructured.Unstructured, error) {
	item, exists, err := s.informer.GetIndexer().GetByKey(key)
	if err != nil || !exists {
		return nil, nil, err
	}
	u, ok := item.(*unstructured.Unstructured)
	if !ok {
		return nil, nil, fmt.Errorf("canary %s: unexpected type %T in the cache", key, item)
	}
	u = s.written.newest(keyOfObject(canaryResource, u), u)
	c, err := decode(u)
	return c, u, err
}

// decode goes through JSON because that checks number ranges, which a field-wise conversion silently truncates.
func decode(u *unstructured.Unstructured) (*v1beta1.Canary, error) {
	data, err := u.MarshalJSON()
	if err != nil {
		return nil, errUndecodable{err}
	}
	c := &v1beta1.Canary{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, errUndecodable{readable(err)}
	}
	return c, nil
}

// readable names the field where the decoder names Go types.
func readable(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	return fmt.Errorf("%s: %s is not usable here, expected %s; correct the field", wrong.Field, wrong.Value, plain(wrong))
}

func plain(e *json.UnmarshalTypeError) string {
	switch e.Type.String() {
	case "int32", "int64", "int":
		return "a whole number"
	case "float64":
		return "a number"
	default:
		return e.Type.String()
	}
}

// rivals returns the Canaries, oldest first, that roll out the same workload or lead the same Service.
func (s *canaries) rivals(u *unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	found := map[types.UID]*unstructured.Unstructured{}
	for name, value := range map[string]string{byTarget: targetOf(u), byService: serviceOf(u)} {
		items, err := s.informer.GetIndexer().ByIndex(name, value)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			if other, ok := item.(*unstructured.Unstructured); ok && other.GetUID() != u.GetUID() {
				found[other.GetUID()] = other
			}
		}
	}
	var all []*unstructured.Unstructured
	for _, other := range found {
		all = append(all, other)
	}
	slices.SortFunc(all, older)
	return all, nil
}

// leadsService is whether another Canary leads the Service of a name.
func (s *canaries) leadsService(u *unstructured.Unstructured, name string) (bool, error) {
	return s.shared(u, byService, u.GetNamespace()+"/"+name)
}

// refersToScaler is whether another Canary refers to an autoscaler.
func (s *canaries) refersToScaler(u *unstructured.Unstructured, scaler v1beta1.ScalerRef) (bool, error) {
	return s.shared(u, byScaler, strings.Join([]string{u.GetNamespace(), scaler.Kind, scaler.Name}, "/"))
}

// shared is whether an index has another Canary than this one under a value.
func (s *canaries) shared(u *unstructured.Unstructured, index, value string) (bool, error) {
	items, err := s.informer.GetIndexer().ByIndex(index, value)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(items, func(item any) bool {
		other, ok := item.(*unstructured.Unstructured)
		return ok && other.GetUID() != u.GetUID()
	}), nil
}

// precedence orders two Canaries that want the same Service or workload. Age alone would let a slip in an older one stop one that
// has worked all along.
func precedence(a, b *unstructured.Unstructured) int {
	name := serviceNameOf(a)
	if serviceNameOf(b) != name {
		name = targetNameOf(a)
	}
	if order := cmp.Compare(claim(b, name), claim(a, name)); order != 0 {
		return order
	}
	return older(a, b)
}

// claim is how good the right of a Canary to a name is: whoever was routed under it comes first, then whoever was never routed
// and has a target of that name.
func claim(u *unstructured.Unstructured, name string) int {
	routing, _, _ := unstructured.NestedSlice(u.Object, "status", "rollout", "routing")
	for _, item := range routing {
		if r, ok := item.(map[string]any); ok && r["service"] == name {
			return 2
		}
	}
	if len(routing) == 0 && targetNameOf(u) == name {
		return 1
	}
	return 0
}

// older orders Canaries by age, then by name.
func older(a, b *unstructured.Unstructured) int {
	at, bt := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	if order := at.Compare(bt.Time); order != 0 {
		return order
	}
	return strings.Compare(a.GetName(), b.GetName())
}

// statusDiffers compares the statuses as the API server would store them.
func statusDiffers(old, next *v1beta1.CanaryStatus) (bool, error) {
	data, err := json.Marshal(next)
	if err != nil {
		return false, err
	}
	var stored v1beta1.CanaryStatus
	if err := json.Unmarshal(data, &stored); err != nil {
		return false, err
	}
	return !equality.Semantic.DeepEqual(*old, stored), nil
}

// writeStatus replaces the status of a Canary. It fails with a conflict if the object is no longer at the version of u.
// Everything outside of the status is sent back as it was read, fields unknown to us included.
func (s *canaries) writeStatus(ctx context.Context, u *unstructured.Unstructured, status *v1beta1.CanaryStatus) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(status)
	if err != nil {
		return fmt.Errorf("canary %s/%s: encoding the status: %w", u.GetNamespace(), u.GetName(), err)
	}
	next := u.DeepCopy()
	next.Object["status"] = fields
	if s.outdated.Load() {
		// Whether the CRD was updated meanwhile is found out without a write, or each attempt would be one.
		err := s.updateStatus(ctx, s.client, next, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			return err
		}
	}
	return s.updateStatus(ctx, recordingClient{s.client, s.written}, next, metav1.UpdateOptions{})
}

func (s *canaries) updateStatus(ctx context.Context, client dynamic.Interface, u *unstructured.Unstructured, options metav1.UpdateOptions) error {
	wanted := recordIn(u)
	stored, err := client.Resource(canaryResource).Namespace(u.GetNamespace()).UpdateStatus(ctx, u, options)
	if err != nil {
		return fmt.Errorf("failed to sync canary %s.%s status: %w", u.GetName(), u.GetNamespace(), err)
	}
	s.outdated.Store(!holds(recordIn(stored), wanted))
	if s.outdated.Load() {
		return named(&v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{Name: u.GetName(), Namespace: u.GetNamespace()}}, errOutdatedCRD)
	}
	return nil
}

// recordIn returns the names of the fields of status.rollout that have a value.
func recordIn(u *unstructured.Unstructured) []string {
	record, _, _ := unstructured.NestedMap(u.Object, "status", "rollout")
	var names []string
	for name, value := range record {
		if value != nil {
			names = append(names, name)
		}
	}
	return names
}

func holds(all, some []string) bool {
	return !slices.ContainsFunc(some, func(name string) bool { return !slices.Contains(all, name) })
}

// patchStatus merges fields into the status of a Canary that can't be decoded.
func (s *canaries) patchStatus(ctx context.Context, u *unstructured.Unstructured, fields map[string]any) error {
	patch, err := json.Marshal(map[string]any{"status": fields})
	if err != nil {
		return err
	}
	_, err = s.resource(u).Patch(ctx, u.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("failed to sync canary %s.%s status: %w", u.GetName(), u.GetNamespace(), err)
	}
	return nil
}

func (s *canaries) resource(u *unstructured.Unstructured) dynamic.ResourceInterface {
	return recordingClient{s.client, s.written}.Resource(canaryResource).Namespace(u.GetNamespace())
}

// keyOf is the key of a Canary in queue and cache.
func keyOf(o metav1.Object) string {
	return cache.NewObjectName(o.GetNamespace(), o.GetName()).String()
}
