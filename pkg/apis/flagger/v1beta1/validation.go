package v1beta1

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidationOptions are the settings of the operator that decide whether a Canary can work.
// +k8s:deepcopy-gen=false
type ValidationOptions struct {
	// Provider is the mesh or ingress of a Canary that names none (-mesh-provider).
	Provider string
	// NoCrossNamespaceRefs forbids references to other namespaces (-no-cross-namespace-refs).
	NoCrossNamespaceRefs bool
}

// Validate returns what in the spec cannot work; each error names the field and says what to do.
// The rules of the CRD are repeated as far as an object can be stored without them: before an
// upgrade of the CRD, or with a provider that only the operator knows. What belongs to the
// analysis is left out while it is skipped.
func Validate(c *Canary, opts ValidationOptions) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateTarget(c, opts, spec)
	errs = append(errs, validateService(c, spec)...)
	errs = append(errs, validateProviderFields(c, opts, spec)...)
	errs = append(errs, validateOwn(c, opts, spec)...)
	errs = append(errs, validateDependsOn(c, spec)...)
	errs = append(errs, validateSchedule(c.GetAnalysis().Schedule, analysisPath(c, spec).Child("schedule"))...)
	errs = append(errs, validateMetricsServer(c, spec)...)
	errs = append(errs, validateCrossNamespaceRefs(c, opts, spec)...)
	if c.SkipAnalysis() {
		return errs
	}
	errs = append(errs, validateAnalysis(c.GetAnalysis(), analysisPath(c, spec))...)
	return append(errs, validateSides(c, opts, analysisPath(c, spec))...)
}

func analysisPath(c *Canary, spec *field.Path) *field.Path {
	if c.Spec.Analysis == nil && c.Spec.CanaryAnalysis != nil {
		return spec.Child("canaryAnalysis")
	}
	return spec.Child("analysis")
}

func validateTarget(c *Canary, opts ValidationOptions, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	target, provider := c.Spec.TargetRef, c.GetProvider(opts.Provider)
	if kinds := []string{"DaemonSet", "Deployment", serviceKind}; !slices.Contains(kinds, target.Kind) {
		errs = append(errs, field.NotSupported(spec.Child("targetRef", "kind"), target.Kind, kinds))
	}
	if target.Name == "" {
		errs = append(errs, field.Required(spec.Child("targetRef", "name"), "name the workload whose revisions are rolled out"))
	}
	if c.Spec.Provider != "" && !slices.Contains(Providers(), c.Spec.Provider) {
		errs = append(errs, field.NotSupported(spec.Child("provider"), c.Spec.Provider, Providers()))
	}
	switch knative := c.IsKnative(); {
	case target.Kind == serviceKind && !knative && !c.IsCoreService():
		errs = append(errs, field.Invalid(spec.Child("targetRef", "apiVersion"), target.APIVersion,
			"Knative Services are served as "+KnativeAPIVersion+": set that"))
	case knative && provider != KnativeProvider:
		errs = append(errs, field.Invalid(spec.Child("provider"), c.Spec.Provider, fmt.Sprintf(
			"can't use %s provider with Knative Service as target: set spec.provider to knative", provider)))
	case !knative && provider == KnativeProvider:
		errs = append(errs, field.Invalid(spec.Child("targetRef"), target.Name, fmt.Sprintf(
			"can't use %s/%s as target if provider is set to knative: refer to a serving.knative.dev/v1 Service, or set another spec.provider",
			target.APIVersion, target.Kind)))
	case knative && c.Spec.AutoscalerRef != nil:
		errs = append(errs, field.Forbidden(spec.Child("autoscalerRef"),
			"can't use autoscaler with Knative Service: remove it, Knative scales its revisions itself"))
	}
	return errs
}

// validateService checks what the three Services are made of. B-27: names that leave no room for
// the suffix failed again and again, long after admission.
func validateService(c *Canary, spec *field.Path) field.ErrorList {
	if c.IsKnative() {
		return nil
	}
	var errs field.ErrorList
	service := spec.Child("service")
	apex, _, _ := c.GetServiceNames()
	if port := c.Spec.Service.Port; (port != 0 || !c.IsCoreService()) && (port < 1 || port > 65535) {
		errs = append(errs, field.Invalid(service.Child("port"), port, "set the port the target is reached at, 1 to 65535"))
	}
	if problem := serviceNameProblem(apex); apex != "" && problem != "" {
		errs = append(errs, field.Invalid(service.Child("name"), apex,
			problem+"; the default is the name of the target: set a shorter, valid spec.service.name"))
	}
	errs = append(errs, validateServiceNames(c, service)...)
	// A Service as target is copied under names of its own.
	if problem := serviceNameProblem(c.Spec.TargetRef.Name); c.IsCoreService() && problem != "" && apex != c.Spec.TargetRef.Name {
		errs = append(errs, field.Invalid(spec.Child("targetRef", "name"), c.Spec.TargetRef.Name,
			problem+": rename the Service"))
	}
	return errs
}

func serviceNameProblem(name string) string {
	limit := validation.DNS1123LabelMaxLength - len(PrimarySuffix)
	if len(name) > limit {
		return fmt.Sprintf("must be at most %d characters long, because the Services %s and %s are named after it",
			limit, "<name>"+PrimarySuffix, "<name>"+CanarySuffix)
	}
	if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
		return "must be a DNS label, because Services are named after it: " + strings.Join(problems, ", ")
	}
	return ""
}

func validateProviderFields(c *Canary, opts ValidationOptions, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	service := c.Spec.Service
	switch provider := c.GetProvider(opts.Provider); {
	case provider == NGINXProvider || provider == SkipperProvider:
		if c.Spec.IngressRef == nil || c.Spec.IngressRef.Name == "" {
			errs = append(errs, field.Required(spec.Child("ingressRef"),
				fmt.Sprintf("provider %s needs it: name the Ingress that exposes the target", provider)))
		}
	case provider == ApisixProvider:
		if c.Spec.RouteRef == nil || c.Spec.RouteRef.Name == "" {
			errs = append(errs, field.Required(spec.Child("routeRef"),
				"provider apisix needs it: name the ApisixRoute that exposes the target"))
		}
	case provider == TraefikProvider:
		if len(c.GetAnalysis().Match) > 0 && (c.Spec.IngressRef == nil || c.Spec.IngressRef.Kind != "IngressRoute") {
			errs = append(errs, field.Required(spec.Child("ingressRef"),
				"an A/B test with provider traefik needs it: name the IngressRoute that leads to the TraefikService of the Canary"))
		}
	case provider == AppMeshProvider:
		if service.MeshName == "" {
			errs = append(errs, field.Required(spec.Child("service", "meshName"),
				"provider appmesh needs it: name the mesh of the virtual nodes"))
		}
	case strings.HasPrefix(provider, GatewayAPIProvider):
		if kind, _ := c.OwnRoute(provider); kind == "" && len(service.GatewayRefs) == 0 {
			errs = append(errs, field.Required(spec.Child("service", "gatewayRefs"),
				fmt.Sprintf("provider %s needs it: name the Gateways the HTTPRoute attaches to", provider)))
		}
	case provider == IstioProvider:
		if service.Delegation && len(service.Hosts)+len(service.Gateways) > 0 {
			errs = append(errs, field.Forbidden(spec.Child("service", "delegation"),
				"a VirtualService with delegation has neither hosts nor gateways: remove them, or delegation"))
		}
	}
	return errs
}

func validateMetricsServer(c *Canary, spec *field.Path) field.ErrorList {
	if c.Spec.MetricsServer == "" {
		return nil
	}
	if problem := urlProblem(c.Spec.MetricsServer); problem != "" {
		return field.ErrorList{field.Invalid(spec.Child("metricsServer"), field.OmitValueType{},
			problem+", for example http://prometheus.monitoring:9090")}
	}
	return nil
}

func validateCrossNamespaceRefs(c *Canary, opts ValidationOptions, spec *field.Path) field.ErrorList {
	if !opts.NoCrossNamespaceRefs {
		return nil
	}
	var errs field.ErrorList
	check := func(path *field.Path, what string, ref *CrossNamespaceObjectReference) {
		if ref == nil || ref.NamespaceOr(c.Namespace) == c.Namespace {
			return
		}
		errs = append(errs, field.Forbidden(path.Child("namespace"), fmt.Sprintf(
			"can't access %s %s.%s, cross-namespace references are blocked: refer to one in namespace %s",
			what, ref.Name, ref.Namespace, c.Namespace)))
	}
	check(spec.Child("upstreamRef"), "gloo upstream", c.Spec.UpstreamRef)
	if c.Spec.DependsOn != nil {
		for i, ref := range c.Spec.DependsOn.Canaries {
			check(spec.Child("dependsOn", "canaries").Index(i), "canary", &CrossNamespaceObjectReference{Name: ref.Name, Namespace: ref.Namespace})
		}
	}
	analysis, path := c.GetAnalysis(), analysisPath(c, spec)
	for i := range analysis.Metrics {
		check(path.Child("metrics").Index(i).Child("templateRef"), "metric template", analysis.Metrics[i].TemplateRef)
	}
	for i := range analysis.Alerts {
		check(path.Child("alerts").Index(i).Child("providerRef"), "alert provider", &analysis.Alerts[i].ProviderRef)
	}
	return errs
}
