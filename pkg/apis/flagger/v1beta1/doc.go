// Package v1beta1 is the API of the operator: Canary, MetricTemplate and AlertProvider,
// their defaults and their validation. The JSON form is a contract with users; it only grows.
//
// +k8s:deepcopy-gen=package
// +kubebuilder:object:generate=true
// +groupName=flagger.app
package v1beta1
