// Package v1alpha3 is the form that the Canary had until 2019, with spec.canaryAnalysis. It is the source of a second
// version in the CRD and of nothing else: the API server stores every Canary as v1beta1, and the operator reads that.
//
// Between the versions nothing is converted: the API server exchanges the apiVersion and no more. Therefore this one is
// made of the types of v1beta1; a field that only one of them knew would be lost in a write through the other.
//
// +groupName=flagger.app
package v1alpha3
