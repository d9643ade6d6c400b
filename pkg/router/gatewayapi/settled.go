package gatewayapi

import (
	"fmt"
	"strings"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"flagger.app/flagger/pkg/router"
)

// report is what the controllers of one parent say about the present generation of a route.
type report int

const (
	// silent parents are those of which no report says anything about it: it may never come.
	silent report = iota
	pending
	accepted
)

// settled goes through the parents of a route. One that has not taken the route over counts before one that is silent.
func settled(route *gatewayv1.HTTPRoute) (o router.Observed) {
	var unreported []string
	for i := range route.Spec.ParentRefs {
		parent := &route.Spec.ParentRefs[i]
		switch state, reason := reported(route, parent); state {
		case pending:
			return router.Observed{Reason: fmt.Sprintf("HTTPRoute %s.%s: %s %s", route.Name, route.Namespace, described(parent), reason)}
		case silent:
			unreported = append(unreported, described(parent))
		case accepted:
		}
	}
	if len(unreported) == 0 {
		return router.Observed{Settled: true}
	}
	return router.Observed{Silent: true, Reason: fmt.Sprintf("HTTPRoute %s.%s: no controller has reported on it for %s",
		route.Name, route.Namespace, strings.Join(unreported, ", "))}
}

// reported goes through what the controllers of a parent have reported. One that has accepted the route is enough: a report of
// a controller that is gone stays behind. A condition without a generation, which some controllers leave out, says nothing
// about the present one unless it is a refusal.
func reported(route *gatewayv1.HTTPRoute, parent *gatewayv1.ParentReference) (state report, reason string) {
	for i := range route.Status.Parents {
		entry := &route.Status.Parents[i]
		if !sameParent(route.Namespace, &entry.ParentRef, parent) {
			continue
		}
		c := apimeta.FindStatusCondition(entry.Conditions, string(gatewayv1.RouteConditionAccepted))
		switch {
		case c == nil || c.ObservedGeneration == 0 && c.Status == metav1.ConditionTrue:
		case c.ObservedGeneration > 0 && c.ObservedGeneration < route.Generation:
			state, reason = pending, fmt.Sprintf("has seen generation %d of %d of the route", c.ObservedGeneration, route.Generation)
		case c.Status != metav1.ConditionTrue:
			state, reason = pending, fmt.Sprintf("does not accept the route: %s: %s", c.Reason, c.Message)
		default:
			return accepted, ""
		}
	}
	return state, reason
}

// described names a parent in the words of a reference to it.
func described(parent *gatewayv1.ParentReference) string {
	text := string(ptr.Deref(parent.Kind, "Gateway")) + " " + string(parent.Name)
	if parent.SectionName != nil {
		text += "/" + string(*parent.SectionName)
	}
	if parent.Port != nil {
		text += fmt.Sprintf(" port %d", *parent.Port)
	}
	return text
}

// sameParent compares references with their defaults: some controllers fill them in when they report.
func sameParent(namespace string, a, b *gatewayv1.ParentReference) bool {
	return a.Name == b.Name &&
		groupOf(a) == groupOf(b) &&
		ptr.Deref(a.Kind, "Gateway") == ptr.Deref(b.Kind, "Gateway") &&
		ptr.Deref(a.Namespace, gatewayv1.Namespace(namespace)) == ptr.Deref(b.Namespace, gatewayv1.Namespace(namespace)) &&
		ptr.Deref(a.SectionName, "") == ptr.Deref(b.SectionName, "") &&
		ptr.Deref(a.Port, 0) == ptr.Deref(b.Port, 0)
}

// groupOf is the group of a parent. Linkerd takes "core" for the group of Services as well, which has no name.
func groupOf(parent *gatewayv1.ParentReference) gatewayv1.Group {
	group := ptr.Deref(parent.Group, gatewayv1.GroupName)
	if group == "core" {
		return ""
	}
	return group
}
