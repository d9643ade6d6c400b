package v1beta1

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateOwn checks what is said of a route and of a primary of the user's own.
func validateOwn(c *Canary, opts ValidationOptions, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	provider := c.GetProvider(opts.Provider)
	route, _ := c.OwnRoute(provider)
	if ref := c.Spec.RouteRef; ref != nil && route == "" && (ref.Kind == HTTPRouteKind || ref.Kind == VirtualServiceKind) {
		errs = append(errs, field.Invalid(spec.Child("routeRef", "kind"), ref.Kind, fmt.Sprintf(
			"provider %s does not change routes of this kind: name an HTTPRoute with provider gatewayapi, or a VirtualService with "+
				"provider istio, or remove routeRef", provider)))
	}
	if route != "" && len(c.GetAnalysis().Match) > 0 {
		errs = append(errs, field.Forbidden(analysisPath(c, spec).Child("match"), fmt.Sprintf(
			"of the %s that routeRef names only weights are changed, which can't lead requests by what they are: remove match, or "+
				"routeRef to have a route made", route)))
	}
	if c.Spec.PrimaryRef == nil {
		return errs
	}
	return append(errs, validateOwnPrimary(c, route, spec)...)
}

func validateOwnPrimary(c *Canary, route string, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	primary, target, path := c.Spec.PrimaryRef, c.Spec.TargetRef, spec.Child("primaryRef")
	if kinds := []string{"DaemonSet", "Deployment"}; !slices.Contains(kinds, primary.Kind) {
		errs = append(errs, field.NotSupported(path.Child("kind"), primary.Kind, kinds))
	}
	if primary.Kind != target.Kind {
		errs = append(errs, field.Invalid(path.Child("kind"), primary.Kind,
			"the pod template is copied from the target, which is a "+target.Kind+": name a workload of that kind"))
	}
	switch primary.Name {
	case "":
		errs = append(errs, field.Required(path.Child("name"), "name the workload that serves as the primary"))
	case target.Name:
		errs = append(errs, field.Invalid(path.Child("name"), primary.Name,
			"this is the target, whose pods are taken away at rest: name another workload as the primary"))
	}
	if route == "" {
		errs = append(errs, field.Required(spec.Child("routeRef"), "a primary of your own needs a route of your own to shift the weights in: "+
			"name an HTTPRoute with provider gatewayapi, or a VirtualService with provider istio"))
	}
	if ref := c.Spec.AutoscalerRef; ref != nil && (ref.PrimaryScalerReplicas != nil || ref.PrimaryScalerQueries != nil) {
		errs = append(errs, field.Forbidden(spec.Child("autoscalerRef"), "the autoscaler of a primary of your own is yours as well: remove "+
			"primaryScalerReplicas and primaryScalerQueries, and set them there"))
	}
	return errs
}

// validateServiceNames checks the names of Services that the user has made.
func validateServiceNames(c *Canary, service *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := []struct{ field, value string }{
		{"primaryName", c.Spec.Service.PrimaryName}, {"canaryName", c.Spec.Service.CanaryName},
	}
	for _, name := range names {
		switch problems := validation.IsDNS1035Label(name.value); {
		case name.value == "":
		case !c.HasOwnPrimary():
			errs = append(errs, field.Forbidden(service.Child(name.field),
				"names a Service beside a primary of your own: set spec.primaryRef, or remove it"))
		case len(problems) > 0:
			errs = append(errs, field.Invalid(service.Child(name.field), name.value, "is not the name of a Service: "+problems[0]))
		}
	}
	if _, primary, canary := c.GetServiceNames(); c.HasOwnPrimary() && primary == canary {
		errs = append(errs, field.Invalid(service.Child("canaryName"), canary,
			"is the Service of the primary as well: name two Services, one for the pods of each side"))
	}
	return errs
}
