package cache

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// A list of objects is one of a runtime.Object each.

func (p *packed) GetObjectKind() schema.ObjectKind { return p.object().GetObjectKind() }

// DeepCopyObject is the same one: nobody can change it.
func (p *packed) DeepCopyObject() runtime.Object { return p }

// client-go takes items of a store for a metav1.Object, and asks each of them several times for what it is called and for its version. An
// ObjectMeta would be a quarter of a kilobyte each time. It changes none, so that the setters do nothing.

func (p *packed) GetNamespace() string       { return p.namespace }
func (p *packed) GetName() string            { return p.name }
func (p *packed) GetUID() types.UID          { return p.uid }
func (p *packed) GetResourceVersion() string { return p.version }

func (p *packed) GetGenerateName() string            { return p.object().GetGenerateName() }
func (p *packed) GetGeneration() int64               { return p.object().GetGeneration() }
func (p *packed) GetSelfLink() string                { return p.object().GetSelfLink() }
func (p *packed) GetCreationTimestamp() metav1.Time  { return p.object().GetCreationTimestamp() }
func (p *packed) GetDeletionTimestamp() *metav1.Time { return p.object().GetDeletionTimestamp() }
func (p *packed) GetDeletionGracePeriodSeconds() *int64 {
	return p.object().GetDeletionGracePeriodSeconds()
}
func (p *packed) GetLabels() map[string]string                  { return p.object().GetLabels() }
func (p *packed) GetAnnotations() map[string]string             { return p.object().GetAnnotations() }
func (p *packed) GetFinalizers() []string                       { return p.object().GetFinalizers() }
func (p *packed) GetOwnerReferences() []metav1.OwnerReference   { return p.object().GetOwnerReferences() }
func (p *packed) GetManagedFields() []metav1.ManagedFieldsEntry { return p.object().GetManagedFields() }

func (p *packed) SetNamespace(string)                          {}
func (p *packed) SetName(string)                               {}
func (p *packed) SetUID(types.UID)                             {}
func (p *packed) SetResourceVersion(string)                    {}
func (p *packed) SetGenerateName(string)                       {}
func (p *packed) SetGeneration(int64)                          {}
func (p *packed) SetSelfLink(string)                           {}
func (p *packed) SetCreationTimestamp(metav1.Time)             {}
func (p *packed) SetDeletionTimestamp(*metav1.Time)            {}
func (p *packed) SetDeletionGracePeriodSeconds(*int64)         {}
func (p *packed) SetLabels(map[string]string)                  {}
func (p *packed) SetAnnotations(map[string]string)             {}
func (p *packed) SetFinalizers([]string)                       {}
func (p *packed) SetOwnerReferences([]metav1.OwnerReference)   {}
func (p *packed) SetManagedFields([]metav1.ManagedFieldsEntry) {}
