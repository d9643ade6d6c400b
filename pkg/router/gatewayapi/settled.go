package gatewayapi

import (
	"fmt"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// pending says what a route still waits for, nothing when every parent has accepted its present generation.
func pending(route *gatewayv1.HTTPRoute) string {
	for i := range route.Spec.ParentRefs {
		parent := &route.Spec.ParentRefs[i]
		if reason := parentPending(route, parent); reason != "" {
			return fmt.Sprintf("HTTPRoute %s.%s: %s %s %s", route.Name, route.Namespace,
				*valueOr(parent.Kind, "Gateway"), parent.Name, reason)
		}
	}
	return ""
}

// parentPending goes through what the controllers of a parent have reported. One that has accepted the route is enough: a
// report of a controller that is gone stays behind.
func parentPending(route *gatewayv1.HTTPRoute, parent *gatewayv1.ParentReference) string {
	reason := "has not accepted the route yet"
	for i := range route.Status.Parents {
		report := &route.Status.Parents[i]
		if !sameParent(route.Namespace, &report.ParentRef, parent) {
			continue
		}
		accepted := apimeta.FindStatusCondition(report.Conditions, string(gatewayv1.RouteConditionAccepted))
		switch {
		case accepted == nil:
		case accepted.ObservedGeneration < route.Generation:
			reason = fmt.Sprintf("has seen generation %d of %d of the route", accepted.ObservedGeneration, route.Generation)
		case accepted.Status != metav1.ConditionTrue:
			reason = fmt.Sprintf("does not accept the route: %s: %s", accepted.Reason, accepted.Message)
		default:
			return ""
		}
	}
	return reason
}

// sameParent compares references with their defaults: some controllers fill them in when they report.
func sameParent(namespace string, a, b *gatewayv1.ParentReference) bool {
	return a.Name == b.Name &&
		*valueOr(a.Group, gatewayv1.GroupName) == *valueOr(b.Group, gatewayv1.GroupName) &&
		*valueOr(a.Kind, "Gateway") == *valueOr(b.Kind, "Gateway") &&
		*valueOr(a.Namespace, gatewayv1.Namespace(namespace)) == *valueOr(b.Namespace, gatewayv1.Namespace(namespace)) &&
		*valueOr(a.SectionName, "") == *valueOr(b.SectionName, "") &&
		*valueOr(a.Port, 0) == *valueOr(b.Port, 0)
}
