package rules

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// defaultCORSMaxAge is what the API server fills in for the maxAge of a CORS filter, in seconds.
const defaultCORSMaxAge = 5

// serviceFilters translates headers, rewrite, mirror and corsPolicy of spec.service, in this order.
func serviceFilters(c *v1beta1.Canary) ([]gatewayv1.HTTPRouteFilter, error) {
	service := &c.Spec.Service
	var filters []gatewayv1.HTTPRouteFilter
	if service.Headers != nil && service.Headers.Request != nil {
		filters = append(filters, gatewayv1.HTTPRouteFilter{
			Type:                  gatewayv1.HTTPRouteFilterRequestHeaderModifier,
			RequestHeaderModifier: headerFilter(service.Headers.Request),
		})
	}
	if service.Headers != nil && service.Headers.Response != nil {
		filters = append(filters, gatewayv1.HTTPRouteFilter{
			Type:                   gatewayv1.HTTPRouteFilterResponseHeaderModifier,
			ResponseHeaderModifier: headerFilter(service.Headers.Response),
		})
	}
	if service.Rewrite != nil {
		filters = append(filters, rewriteFilter(service.Rewrite))
	}
	for i := range service.Mirror {
		filters = append(filters, mirrorFilter(backendObject(&service.Mirror[i].BackendRef), nil))
	}
	if service.CorsPolicy != nil {
		cors, err := corsFilter(service.CorsPolicy)
		if err != nil {
			return nil, err
		}
		filters = append(filters, cors)
	}
	return filters, nil
}

func headerFilter(operations *v1beta1.HeaderOperations) *gatewayv1.HTTPHeaderFilter {
	return &gatewayv1.HTTPHeaderFilter{
		Set:    headers(operations.Set),
		Add:    headers(operations.Add),
		Remove: operations.Remove,
	}
}

// headers are sorted by name, so that two renderings are equal.
func headers(values map[string]string) []gatewayv1.HTTPHeader {
	var list []gatewayv1.HTTPHeader
	for _, name := range slices.Sorted(maps.Keys(values)) {
		list = append(list, gatewayv1.HTTPHeader{Name: gatewayv1.HTTPHeaderName(name), Value: values[name]})
	}
	return list
}

func rewriteFilter(rewrite *v1beta1.HTTPRewrite) gatewayv1.HTTPRouteFilter {
	filter := &gatewayv1.HTTPURLRewriteFilter{}
	if rewrite.Authority != "" {
		host := gatewayv1.PreciseHostname(rewrite.Authority)
		filter.Hostname = &host
	}
	uri := rewrite.URI
	switch {
	case uri == "":
	case rewrite.Type == string(gatewayv1.PrefixMatchHTTPPathModifier):
		filter.Path = &gatewayv1.HTTPPathModifier{Type: gatewayv1.PrefixMatchHTTPPathModifier, ReplacePrefixMatch: &uri}
	default:
		filter.Path = &gatewayv1.HTTPPathModifier{Type: gatewayv1.FullPathHTTPPathModifier, ReplaceFullPath: &uri}
	}
	return gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterURLRewrite, URLRewrite: filter}
}

func corsFilter(policy *v1beta1.CorsPolicy) (gatewayv1.HTTPRouteFilter, error) {
	cors := &gatewayv1.HTTPCORSFilter{MaxAge: defaultCORSMaxAge}
	for _, origin := range policy.AllowOrigin {
		cors.AllowOrigins = append(cors.AllowOrigins, gatewayv1.CORSOrigin(origin))
	}
	for i, origin := range policy.AllowOrigins {
		if origin.Exact == "" {
			return gatewayv1.HTTPRouteFilter{}, &router.FieldError{
				Field:   fmt.Sprintf("spec.service.corsPolicy.allowOrigins[%d]", i),
				Message: "an HTTPRoute lists origins one by one: use exact, or corsPolicy.allowOrigin",
			}
		}
		cors.AllowOrigins = append(cors.AllowOrigins, gatewayv1.CORSOrigin(origin.Exact))
	}
	for _, method := range policy.AllowMethods {
		cors.AllowMethods = append(cors.AllowMethods, gatewayv1.HTTPMethodWithWildcard(method))
	}
	for _, header := range policy.AllowHeaders {
		cors.AllowHeaders = append(cors.AllowHeaders, gatewayv1.HTTPHeaderName(header))
	}
	for _, header := range policy.ExposeHeaders {
		cors.ExposeHeaders = append(cors.ExposeHeaders, gatewayv1.HTTPHeaderName(header))
	}
	if policy.AllowCredentials != nil && *policy.AllowCredentials {
		cors.AllowCredentials = policy.AllowCredentials
	}
	if age, err := time.ParseDuration(policy.MaxAge); err == nil && age >= time.Second {
		cors.MaxAge = int32(age.Seconds())
	}
	return gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterCORS, CORS: cors}, nil
}

func mirrorFilter(to gatewayv1.BackendObjectReference, percent *int32) gatewayv1.HTTPRouteFilter {
	return gatewayv1.HTTPRouteFilter{
		Type:          gatewayv1.HTTPRouteFilterRequestMirror,
		RequestMirror: &gatewayv1.HTTPRequestMirrorFilter{BackendRef: to, Percent: percent},
	}
}

// mirrorToCanary copies requests to the canary. No percentage means all of them.
func mirrorToCanary(c *v1beta1.Canary) gatewayv1.HTTPRouteFilter {
	var percent *int32
	if weight := c.GetAnalysis().MirrorWeight; weight > 0 {
		percent = &weight
	}
	return mirrorFilter(serviceRef(c, router.NamesOf(c).Canary), percent)
}

func backendObject(r *v1beta1.BackendObjectReference) gatewayv1.BackendObjectReference {
	return gatewayv1.BackendObjectReference{
		Group:     ptr.To(ptr.Deref((*gatewayv1.Group)(r.Group), "")),
		Kind:      ptr.To(ptr.Deref((*gatewayv1.Kind)(r.Kind), "Service")),
		Name:      gatewayv1.ObjectName(r.Name),
		Namespace: (*gatewayv1.Namespace)(r.Namespace),
		Port:      r.Port,
	}
}

// mirrors counts the filters that copy requests to a Service.
func mirrors(filters []gatewayv1.HTTPRouteFilter, service string) int {
	count := 0
	for i := range filters {
		if mirror := filters[i].RequestMirror; mirror != nil && string(mirror.BackendRef.Name) == service {
			count++
		}
	}
	return count
}

// userMirrors counts the mirrors to the canary that the user has asked for: they are there at all times.
func userMirrors(c *v1beta1.Canary, service string) int {
	count := 0
	for i := range c.Spec.Service.Mirror {
		if c.Spec.Service.Mirror[i].BackendRef.Name == service {
			count++
		}
	}
	return count
}

func addCookie(header string) gatewayv1.HTTPRouteFilter {
	return gatewayv1.HTTPRouteFilter{
		Type: gatewayv1.HTTPRouteFilterResponseHeaderModifier,
		ResponseHeaderModifier: &gatewayv1.HTTPHeaderFilter{
			Add: []gatewayv1.HTTPHeader{{Name: setCookie, Value: header}},
		},
	}
}

// dropCookie adds the Set-Cookie header to copies of the filters. A rule may have one filter for response headers only.
func dropCookie(filters []gatewayv1.HTTPRouteFilter, header string) []gatewayv1.HTTPRouteFilter {
	cookie := addCookie(header)
	var all []gatewayv1.HTTPRouteFilter
	merged := false
	for i := range filters {
		filter := *filters[i].DeepCopy()
		if filter.ResponseHeaderModifier != nil {
			filter.ResponseHeaderModifier.Add = append(filter.ResponseHeaderModifier.Add, cookie.ResponseHeaderModifier.Add...)
			merged = true
		}
		all = append(all, filter)
	}
	if merged {
		return all
	}
	return append(all, cookie)
}

// findCookie returns the cookie in the Set-Cookie header that filters add, for one that is dropped or for one that is set.
func findCookie(filters []gatewayv1.HTTPRouteFilter, dropped bool) string {
	for i := range filters {
		if filters[i].ResponseHeaderModifier == nil {
			continue
		}
		for _, header := range filters[i].ResponseHeaderModifier.Add {
			if header.Name != setCookie {
				continue
			}
			if cookie, drop := router.CookieOf(header.Value); drop == dropped {
				return cookie
			}
		}
	}
	return ""
}
