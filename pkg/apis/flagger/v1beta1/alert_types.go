package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=alertproviders,singular=alertprovider,scope=Namespaced,categories=all
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`

// AlertProvider is a chat service that alerts of Canaries are sent to.
type AlertProvider struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the chat service.
	Spec AlertProviderSpec `json:"spec"`

	// Status is what the operator observed.
	// +optional
	Status AlertProviderStatus `json:"status,omitempty,omitzero"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true

// AlertProviderList is a list of AlertProvider objects.
type AlertProviderList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []AlertProvider `json:"items"`
}

// AlertProviderSpec is a chat service and how to reach it. At least one of address and
// secretRef is set; an address in the Secret wins.
// +kubebuilder:validation:XValidation:rule="has(self.address) || has(self.secretRef)",message="the provider has no address: set address, or secretRef to a Secret with the key address"
type AlertProviderSpec struct {
	// Type of the chat service; webhook for any receiver of JSON, alertmanager for that of Prometheus.
	// +kubebuilder:validation:Enum=slack;msteams;discord;rocket;gchat;webhook;alertmanager
	Type string `json:"type"`

	// Channel to post to, where the service has channels.
	// +optional
	Channel string `json:"channel,omitempty"`

	// Username shown as sender.
	// +optional
	Username string `json:"username,omitempty"`

	// Address is the URL of the incoming webhook.
	// +optional
	Address string `json:"address,omitempty"`

	// Proxy is the URL of an HTTP proxy.
	// +optional
	Proxy string `json:"proxy,omitempty"`

	// SecretRef names the Secret, in the namespace of the provider, with the keys address and
	// token. The token is that of a Slack bot or of the Alertmanager, or signs what a webhook gets.
	// +optional
	SecretRef *corev1.LocalObjectReference `json:"secretRef,omitempty"`
}

// AlertProviderStatus is what the operator observed about a provider.
type AlertProviderStatus struct {
	// Conditions of the provider.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []CanaryCondition `json:"conditions,omitempty"`
}
