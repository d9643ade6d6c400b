package router

import (
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Op is a write of the Applier.
type Op string

// The writes of the Applier.
const (
	Create Op = "create"
	Update Op = "update"
	Delete Op = "delete"
)

// WriteError is a write that failed, with the object it concerns.
type WriteError struct {
	Ref Ref
	Op  Op
	Err error
}

// Error names the object in the words that users of Flagger know from events.
func (e *WriteError) Error() string {
	text := fmt.Sprintf("%s %s.%s %s error: %v", e.Ref.Kind, e.Ref.Name, e.Ref.Namespace, e.Op, e.Err)
	switch {
	case e.Ref.Kind == "Service" && e.Ref.Resource.Group == "":
		text = fmt.Sprintf("reconcileService failed: service %s.%s %s error: %v", e.Ref.Name, e.Ref.Namespace, e.Op, e.Err)
	case e.Ref.Namespace == "":
		text = fmt.Sprintf("%s %s %s error: %v", e.Ref.Kind, e.Ref.Name, e.Op, e.Err)
	}
	if missingKind(e.Err) {
		text += fmt.Sprintf(": install the CRD of %s, or set another %s", e.Ref.Resource.GroupResource(), e.field())
	}
	return text
}

// field is what made us write an object of this kind.
func (e *WriteError) field() string {
	if group := e.Ref.Resource.Group; group == "autoscaling" || group == "keda.sh" {
		return "spec.autoscalerRef"
	}
	return "spec.provider"
}

// Unwrap returns the error of the API server.
func (e *WriteError) Unwrap() error { return e.Err }

// missingKind tells an unknown resource from a missing namespace: only the latter is named in the details.
func missingKind(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details == nil || details.Name == ""
}

// IsStale tells whether a write failed only because the caches lag behind the API server. The pass can be repeated at
// once.
func IsStale(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err)
}
