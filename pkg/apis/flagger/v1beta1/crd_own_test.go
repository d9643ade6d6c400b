package v1beta1_test

import "testing"

func deployment(name string) object {
	return object{"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
}

// own is a Canary with a route of its user's and, unless that is taken away, a primary.
func own(provider, kind string, with object) object {
	change := object{
		"spec.routeRef":   object{"apiVersion": "v1", "kind": kind, "name": "edge"},
		"spec.primaryRef": deployment("stable"),
	}
	if provider != "" {
		change["spec.provider"] = provider
	}
	for key, value := range with {
		change[key] = value
	}
	return change
}

func TestAdmissionOfOwnPrimary(t *testing.T) {
	canary := newAdmissions(t, "v1beta1")["Canary"]
	for name, test := range map[string]struct {
		change object
		want   string // part of the error; empty means accepted
	}{
		"route of gatewayapi":       {own("gatewayapi:v1", "HTTPRoute", object{"spec.primaryRef": nil}), ""},
		"route of istio":            {own("istio", "VirtualService", object{"spec.primaryRef": nil}), ""},
		"route by flag":             {own("", "VirtualService", nil), ""},
		"primary":                   {own("istio", "VirtualService", object{"spec.service.primaryName": "a", "spec.service.canaryName": "b"}), ""},
		"route of another kind":     {own("istio", "HTTPRoute", nil), "spec.routeRef: Invalid value"},
		"route of another provider": {own("contour", "HTTPRoute", nil), "this provider does not change routes of this kind"},
		"primary without route":     {own("istio", "VirtualService", object{"spec.routeRef": nil}), "a primary of your own needs a route of your own"},
		"primary is the target":     {own("istio", "VirtualService", object{"spec.primaryRef": deployment("podinfo")}), "primaryRef and targetRef are one workload"},
		"primary of another kind":   {own("istio", "VirtualService", object{"spec.targetRef.kind": "DaemonSet"}), "must both be a Deployment, or both a DaemonSet"},
		"primary of a Service": {own("istio", "VirtualService", object{
			"spec.primaryRef": object{"apiVersion": "v1", "kind": "Service", "name": "a"}, "spec.targetRef.kind": "Service",
		}), "must both be a Deployment"},
		"names without primary":   {object{"spec.service.primaryName": "a"}, "set spec.primaryRef, or remove them"},
		"apisix route with istio": {own("istio", "ApisixRoute", object{"spec.primaryRef": nil}), ""},
	} {
		t.Run(name, func(t *testing.T) { checkErrors(t, canary.create(t, set(t, test.change)), test.want) })
	}
}
