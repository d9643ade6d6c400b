package metrics

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/metrics/template"
)

const (
	// maxQuery is the most, in bytes, that a query may be, before and after rendering. Servers refuse longer URLs anyway.
	maxQuery = 64 << 10
	// budget is what one rendering may spend. It takes a fraction of a second to spend, and ten thousand turns of an empty loop.
	budget = 100_000
)

// Vars are the values of the functions that a query may use.
type Vars struct {
	// Name and Namespace of the Canary.
	Name, Namespace string
	// Target is targetRef.name, Service the name of the apex Service, Ingress that of the Ingress. Route is that of the
	// ApisixRoute, or the latest revision of a Knative Service.
	Target, Service, Ingress, Route string
	// Interval is the time window as Prometheus writes it.
	Interval string
	// Variables are the templateVariables of the metric.
	Variables map[string]string
	// TargetKind is targetRef.kind; the names of pods depend on it.
	TargetKind string
	// Primary makes a query be about the primary in place of the canary.
	Primary bool
	// Shared is whether other Canaries have canaries behind the same Ingress.
	Shared bool
}

// aboutPrimary are the same values for a query about the primary.
func (v Vars) aboutPrimary(c *v1beta1.Canary) Vars {
	v.Target, v.Primary = c.GetPrimaryName(), true
	return v
}

// side is the part of the names of Services that tells one side from the other.
func (v Vars) side() string {
	if v.Primary {
		return "primary"
	}
	return "canary"
}

// NewVars takes the values from a Canary and one of its metrics.
func NewVars(c *v1beta1.Canary, m v1beta1.CanaryMetric) Vars {
	apex, _, _ := c.GetServiceNames()
	v := Vars{
		Name:       c.Name,
		Namespace:  c.Namespace,
		Target:     c.Spec.TargetRef.Name,
		Service:    apex,
		Ingress:    c.Spec.TargetRef.Name,
		Route:      c.Spec.TargetRef.Name,
		Interval:   promInterval(m.GetMetricInterval()),
		Variables:  m.TemplateVariables,
		TargetKind: c.Spec.TargetRef.Kind,
		Shared:     c.SharesIngress(),
	}
	if c.Spec.IngressRef != nil {
		v.Ingress = c.Spec.IngressRef.Name
	}
	if c.Spec.RouteRef != nil {
		v.Route = c.Spec.RouteRef.Name
	}
	return v
}

// promInterval rewrites fractions, which the CRD accepts and Prometheus does not: 1.5m is 90000ms.
func promInterval(interval string) string {
	if !strings.Contains(interval, ".") {
		return interval
	}
	d, err := time.ParseDuration(interval)
	if err != nil || d < time.Millisecond {
		return interval
	}
	return fmt.Sprintf("%dms", d.Milliseconds())
}

// Render executes the query as a Go template with the functions name, namespace, target, service, ingress, route, interval,
// side and variables. A missing variable is an error, and so is a template that takes too long or makes too long a text.
func Render(query string, v Vars) (string, error) {
	return render(query, functions(v))
}

func render(query string, funcs map[string]template.Func) (string, error) {
	return template.Render(query, funcs, template.Limits{Budget: budget, Size: maxQuery})
}

func functions(v Vars) map[string]template.Func {
	return map[string]template.Func{
		"name":      template.Value(v.Name),
		"namespace": template.Value(v.Namespace),
		"target":    template.Value(v.Target),
		"service":   template.Value(v.Service),
		"ingress":   template.Value(v.Ingress),
		"route":     template.Value(v.Route),
		"interval":  template.Value(v.Interval),
		"side":      template.Value(v.side()),
		"variables": template.Value(v.Variables),
	}
}

// placeholder is how dashboards mark what they fill in, as in $namespace or ${namespace}. $1 is part of PromQL.
var placeholder = regexp.MustCompile(`\$\{?([A-Za-z_]\w*)\}?`)

// filledIn refuses a query in PromQL that was copied from a dashboard: in a label, what was to be filled in would be a value that no
// series has, which looks like a canary without traffic. The name of a group in a regular expression is no such thing.
func filledIn(query string) error {
	for _, m := range placeholder.FindAllStringSubmatch(query, -1) {
		if strings.Contains(query, "<"+m[1]+">") {
			continue
		}
		instead := "a function such as {{ target }}"
		switch m[1] {
		case "namespace", "target", "service", "ingress", "route", "interval", "name":
			instead = "{{ " + m[1] + " }}"
		case "workload", "deployment":
			instead = "{{ target }}"
		case "__interval", "__rate_interval", "__range":
			instead = "{{ interval }}"
		}
		return fmt.Errorf("nobody fills in %s: write %s in its place", m[0], instead)
	}
	return nil
}

var nonWord = regexp.MustCompile(`\W`)

// builtInFunctions adds what the built-in queries need beyond what users may rely on: primary, shared, word, the form of a name in the
// route names of Skipper, and pods, the regular expression for the names of the target's pods. Pods of a DaemonSet are
// <name>-<id>, those of a Deployment <name>-<replica set>-<id>.
func builtInFunctions(v Vars) map[string]template.Func {
	pods := v.Target + "-[0-9a-zA-Z]+"
	if v.TargetKind != "DaemonSet" {
		pods += "(-[0-9a-zA-Z]+)"
	}
	funcs := functions(v)
	funcs["primary"] = template.Value(v.Primary)
	funcs["shared"] = template.Value(v.Shared)
	funcs["word"] = template.OfText(func(s string) string { return nonWord.ReplaceAllString(s, "_") })
	funcs["pods"] = template.Value(pods)
	return funcs
}
