package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/kube/objects"
)

// ErrOutdatedCRD is a status that the API server stored without our record of the rollout. A CRD that is older than the
// operator does not know the field: Helm, for one, leaves the CRDs of a chart as they are when it upgrades.
var ErrOutdatedCRD = errors.New("the CRD canaries.flagger.app is older than this operator and drops status.rollout: " +
	"apply artifacts/flagger/crd.yaml of this version; nothing is rolled out before that")

// Status is a status as the API server would store it, with times no finer than that.
type Status struct {
	decoded *v1beta1.CanaryStatus
	encoded []byte
}

// noText is what JSON has in the place of bytes that are no UTF-8.
const noText = `\ufffd`

// Changed returns next as the API server would store it, and nil if that is what old is.
func Changed(old, next *v1beta1.CanaryStatus) (*Status, error) {
	// So it is in almost every pass.
	if old.Equal(next) {
		return nil, nil
	}
	stored := next.Stored()
	if old.Equal(stored) {
		return nil, nil
	}
	data, err := json.Marshal(stored)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(data, []byte(noText)) {
		// Some message of a server was no UTF-8, and is another one when it is read back.
		stored = &v1beta1.CanaryStatus{}
		if err := json.Unmarshal(data, stored); err != nil {
			return nil, err
		}
		if old.Equal(stored) {
			return nil, nil
		}
	}
	return &Status{decoded: stored, encoded: data}, nil
}

// WriteStatus replaces the status of a Canary, which c was decoded from. It fails with a conflict if the object is no longer at the
// version of u. Everything outside of the status is sent back as it was read, fields unknown to us included. It returns what is decoded
// from the object that it leaves, nil if that is not known.
func (s *Canaries) WriteStatus(ctx context.Context, u *unstructured.Unstructured, c *v1beta1.Canary, status *Status) (*v1beta1.Canary, error) {
	fields, err := s.cluster.codec.decoder.Unmarshal(status.encoded)
	if err != nil {
		return nil, fmt.Errorf("canary %s/%s: encoding the status: %w", u.GetNamespace(), u.GetName(), err)
	}
	// Sent and not changed, so what is not replaced need not be copied.
	next := &unstructured.Unstructured{Object: maps.Clone(u.Object)}
	next.Object["status"] = fields
	if s.outdated.Load() {
		// Whether the CRD was updated meanwhile is found out without a write, or each attempt would be one.
		_, err := s.updateStatus(ctx, s.cluster.client, next, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			return nil, err
		}
	}
	stored, err := s.updateStatus(ctx, s.cluster.Client(), next, metav1.UpdateOptions{})
	if err != nil || !IsAt(c, u) || !storedAs(stored, next) {
		return nil, err
	}
	written := *c
	written.ResourceVersion, written.Status = stored.GetResourceVersion(), *status.decoded
	return &written, nil
}

func (s *Canaries) updateStatus(ctx context.Context, client dynamic.Interface, u *unstructured.Unstructured,
	options metav1.UpdateOptions) (*unstructured.Unstructured, error) {
	wanted := recordIn(u)
	stored, err := client.Resource(CanaryResource).Namespace(u.GetNamespace()).UpdateStatus(ctx, u, options)
	if err != nil {
		return nil, fmt.Errorf("failed to sync canary %s.%s status: %w", u.GetName(), u.GetNamespace(), err)
	}
	s.outdated.Store(!holds(recordIn(stored), wanted))
	if s.outdated.Load() {
		return nil, fmt.Errorf("canary %s/%s: %w", u.GetNamespace(), u.GetName(), ErrOutdatedCRD)
	}
	return stored, nil
}

// storedAs is whether the API server has stored what it was sent, as it does unless a webhook or an older CRD made something else of it.
func storedAs(stored, sent *unstructured.Unstructured) bool {
	metadata := func(u *unstructured.Unstructured) map[string]any {
		fields, _ := u.Object["metadata"].(map[string]any)
		fields = maps.Clone(fields)
		delete(fields, "resourceVersion")
		return fields
	}
	a, b := maps.Clone(stored.Object), maps.Clone(sent.Object)
	a["metadata"], b["metadata"] = metadata(stored), metadata(sent)
	return objects.Equal(a, b)
}

// recordIn returns the names of the fields of status.rollout that have a value.
func recordIn(u *unstructured.Unstructured) []string {
	value, _, _ := unstructured.NestedFieldNoCopy(u.Object, "status", "rollout")
	record, _ := value.(map[string]any)
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

// PatchStatus merges fields into the status of a Canary that can't be decoded.
func (s *Canaries) PatchStatus(ctx context.Context, u *unstructured.Unstructured, fields map[string]any) error {
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

func (s *Canaries) resource(u *unstructured.Unstructured) dynamic.ResourceInterface {
	return s.cluster.Client().Resource(CanaryResource).Namespace(u.GetNamespace())
}

// SetFinalizer adds or removes our finalizer; those of others stay. It fails with a conflict if somebody else has changed the
// Canary since it was last seen.
func (s *Canaries) SetFinalizer(ctx context.Context, key string, uid types.UID, present bool) error {
	u, err := s.Object(key)
	if u == nil || u.GetUID() != uid {
		return err
	}
	finalizers := slices.DeleteFunc(slices.Clone(u.GetFinalizers()), func(f string) bool { return f == v1beta1.Finalizer })
	if present {
		finalizers = append(finalizers, v1beta1.Finalizer)
	}
	if slices.Equal(finalizers, u.GetFinalizers()) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"finalizers": finalizers, "resourceVersion": u.GetResourceVersion(),
	}})
	if err != nil {
		return err
	}
	_, err = s.resource(u).Patch(ctx, u.GetName(), types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && (present || !apierrors.IsNotFound(err)) {
		return fmt.Errorf("canary %s.%s finalizers patch error: %w", u.GetName(), u.GetNamespace(), err)
	}
	return nil
}
