package v1alpha3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// SchemeGroupVersion is the group and version of the types in this package.
var SchemeGroupVersion = schema.GroupVersion{Group: v1beta1.GroupName, Version: "v1alpha3"}

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=canaries,singular=canary,scope=Namespaced,categories=all
// +kubebuilder:deprecatedversion:warning="flagger.app/v1alpha3 Canary is deprecated: write apiVersion: flagger.app/v1beta1 and rename spec.canaryAnalysis to spec.analysis"
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Weight",type=string,JSONPath=`.status.canaryWeight`
// +kubebuilder:printcolumn:name="LastTransitionTime",type=string,JSONPath=`.status.lastTransitionTime`

// Canary asks the operator to roll out every new revision of a workload step by step, to judge
// it by metrics and hooks, and to promote it or take it back.
type Canary struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the user asks for.
	//
	// The fields are those of v1beta1; analysis may have its name of 2019, canaryAnalysis.
	Spec v1beta1.CanarySpec `json:"spec"`

	// Status is what the operator observed and how far the rollout has come.
	// +optional
	Status v1beta1.CanaryStatus `json:"status,omitempty,omitzero"`
}
