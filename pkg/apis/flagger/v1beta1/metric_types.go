package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=metrictemplates,singular=metrictemplate,scope=Namespaced,categories=all
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name="Provider",type=string,JSONPath=`.spec.provider.type`

// MetricTemplate is a query to a metrics back-end that Canaries refer to.
type MetricTemplate struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the query and where to send it.
	Spec MetricTemplateSpec `json:"spec"`

	// Status is what the operator observed.
	// +optional
	Status MetricTemplateStatus `json:"status,omitempty,omitzero"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true

// MetricTemplateList is a list of MetricTemplate objects.
type MetricTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []MetricTemplate `json:"items"`
}

// MetricTemplateSpec is a query and the back-end that answers it.
type MetricTemplateSpec struct {
	// Provider is the back-end.
	Provider MetricTemplateProvider `json:"provider"`

	// Query in the language of the back-end, a Go template. Functions: name, namespace, target,
	// service, ingress, route, interval, side, variables. A comparison sends the query twice: target is
	// then the name of the target or of its primary, and side is canary or primary.
	Query string `json:"query"`
}

// MetricTemplateProvider is a metrics back-end and how to reach it.
type MetricTemplateProvider struct {
	// Type of the back-end.
	// +kubebuilder:validation:Enum=prometheus;influxdb;datadog;externalmetrics;stackdriver;cloudwatch;newrelic;graphite;dynatrace;keptn;splunk
	Type string `json:"type"`

	// Address is the URL of the back-end. Types with a well-known address have a default.
	// +optional
	Address string `json:"address,omitempty"`

	// Headers to send with each query (type prometheus).
	// +optional
	Headers map[string][]string `json:"headers,omitempty"`

	// SecretRef names the Secret, in the namespace of the template, with the credentials.
	// +optional
	SecretRef *corev1.LocalObjectReference `json:"secretRef,omitempty"`

	// Region of the back-end (type cloudwatch), or the one to sign requests to Amazon for (type prometheus).
	// +optional
	Region string `json:"region,omitempty"`

	// InsecureSkipVerify accepts any certificate of the back-end.
	// +optional
	InsecureSkipVerify bool `json:"insecureSkipVerify,omitempty"`
}

// MetricTemplateStatus is what the operator observed about a template.
type MetricTemplateStatus struct {
	// Conditions of the template.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []CanaryCondition `json:"conditions,omitempty"`
}
