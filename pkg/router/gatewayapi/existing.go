package gatewayapi

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/gatewayapi/rules"
)

// spare refuses to take over a route of a user's that serves more than the Canary asks for: what it serves beyond that would be cut
// off from its users, as a route of a Gateway is by a Canary whose route is for a mesh. Whoever was taken over once is not asked again.
func spare(c *v1beta1.Canary, o router.Object, existing *unstructured.Unstructured) error {
	if existing == nil || router.ControlOf(c, existing) != router.Foreign || existing.GetAnnotations()[router.OriginalAnnotation] != "" {
		return nil
	}
	live, err := decode(existing)
	if err != nil {
		return nil //nolint:nilerr // what no gateway can read serves nobody
	}
	if _, err := rules.Read(c, o.Ref, live.Spec.Rules); err == nil {
		// Flagger leaves no mark on what it has taken over.
		return nil
	}
	wanted, err := decode(o.Wanted)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Ref, err)
	}
	lost := lostParents(live, wanted)
	lost = append(lost, lostHosts(live, wanted)...)
	if lost = append(lost, lostBackends(c, existing)...); len(lost) == 0 {
		return nil
	}
	return &router.FieldError{Field: "spec.service.name", Message: fmt.Sprintf("%s is no Canary's and also serves %s, which it would lose: "+
		"rename it, add to the Canary what it lacks, or name it in spec.routeRef to have nothing but weights changed in it",
		o.Ref, strings.Join(lost, ", "))}
}

func lostParents(live, wanted *gatewayv1.HTTPRoute) []string {
	var lost []string
	for i := range live.Spec.ParentRefs {
		parent := &live.Spec.ParentRefs[i]
		if !slices.ContainsFunc(wanted.Spec.ParentRefs, func(kept gatewayv1.ParentReference) bool {
			return sameParent(live.Namespace, parent, &kept)
		}) {
			lost = append(lost, described(parent))
		}
	}
	return lost
}

// lostHosts: a route without hosts is for all of them.
func lostHosts(live, wanted *gatewayv1.HTTPRoute) []string {
	var lost []string
	for _, host := range live.Spec.Hostnames {
		if len(wanted.Spec.Hostnames) > 0 && !slices.Contains(wanted.Spec.Hostnames, host) {
			lost = append(lost, "host "+string(host))
		}
	}
	return lost
}

// lostBackends are those of other applications, and what answers by itself.
func lostBackends(c *v1beta1.Canary, existing *unstructured.Unstructured) []string {
	names, lost := router.NamesOf(c), []string(nil)
	all, _, _ := unstructured.NestedSlice(existing.Object, "spec", "rules") //nolint:errcheck // decode has read it
	for i, item := range all {
		rule, _ := item.(map[string]any)           //nolint:errcheck // so it is no other type
		backends, _ := rule["backendRefs"].([]any) //nolint:errcheck // nor is this
		if filters, ok := rule["filters"].([]any); ok && len(backends) == 0 && len(filters) > 0 {
			lost = append(lost, fmt.Sprintf("rule %d, which answers by itself", i))
		}
		for _, b := range backends {
			backend, _ := b.(map[string]any) //nolint:errcheck // nor is this
			if service := serviceOf(c.Namespace, backend); service == "" || !slices.Contains([]string{names.Apex, names.Primary, names.Canary}, service) {
				lost = append(lost, fmt.Sprintf("backend %v", backend["name"]))
			}
		}
	}
	return lost
}
