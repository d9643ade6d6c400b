// Package knative shifts traffic between two revisions of a Knative Service: the one that an annotation names as primary,
// and the latest one.
//
// Field reference: https://github.com/knative/specs/blob/main/specs/serving/knative-api-specification-1.0.md.
package knative

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// PrimaryAnnotation on a Knative Service names the revision that was promoted last.
const PrimaryAnnotation = "flagger.app/primary-revision"

// Provider renders spec.traffic of the target, which belongs to the user.
type Provider struct{}

var _ router.Provider = Provider{}

// New returns the provider.
func New() Provider { return Provider{} }

// Abilities are weights; the Service tells when they are in force.
func (Provider) Abilities() router.Abilities {
	return router.Abilities{Routes: true, Weights: true, ReportsSettled: true, ReportsDataPlane: true}
}

// Resources is the Service of Knative.
func (Provider) Resources() []router.Ref { return []router.Ref{Ref("", "")} }

// Sources is the target, whose annotation names the primary.
func (Provider) Sources(c *v1beta1.Canary) []router.Ref { return []router.Ref{target(c)} }

// Ref names a Knative Service.
func Ref(namespace, name string) router.Ref {
	return router.RefTo("serving.knative.dev", "v1", "Service", "services").Of(namespace, name)
}

func target(c *v1beta1.Canary) router.Ref { return Ref(c.Namespace, c.Spec.TargetRef.Name) }

// Render returns the traffic of the target. There is none to render as long as the target does not exist or has no primary.
func (Provider) Render(c *v1beta1.Canary, t router.Traffic, sources router.Live) ([]router.Object, error) {
	ref := target(c)
	live, err := sources.Get(ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	if live == nil || live.GetAnnotations()[PrimaryAnnotation] == "" {
		return nil, nil
	}
	primary := live.GetAnnotations()[PrimaryAnnotation]
	return []router.Object{{
		Ref: ref,
		Wanted: router.NewObject(ref, nil, map[string]string{PrimaryAnnotation: primary}, map[string]any{"traffic": []any{
			map[string]any{"latestRevision": true, "percent": int64(t.Canary)},
			map[string]any{
				// Knative spells this default out.
				"latestRevision": false,
				"revisionName":   primary,
				"percent":        int64(t.Primary),
			},
		}}),
		// The annotation goes when the Service is given back.
		Owned:        [][]string{{"spec", "traffic"}, {"metadata", "annotations", PrimaryAnnotation}},
		KeepOriginal: true,
		Unowned:      true,
	}}, nil
}

// Read takes the weights from the spec. What the status says of them is the report: it may be late, or never come.
func (Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	ref := target(c)
	service, err := router.MustGet(live, ref)
	if err != nil {
		return router.Observed{}, err
	}
	primary := service.GetAnnotations()[PrimaryAnnotation]
	if primary == "" {
		return router.Observed{}, fmt.Errorf("%s: the annotation %s is missing", ref, PrimaryAnnotation)
	}
	traffic, ok := splitIn(service, primary, "spec")
	if !ok {
		return router.Observed{}, fmt.Errorf("%s: spec.traffic is not split between the latest revision and %s", ref, primary)
	}
	o := report(service)
	o.Traffic = traffic
	if routed, ok := splitIn(service, primary, "status"); o.Settled && (!ok || routed != traffic) {
		o.Settled, o.Reason = false, "status.traffic is not as spec.traffic wants it"
	}
	return o, nil
}

// splitIn returns the split that spec.traffic asks for, or that status.traffic reports. It is false for any other traffic.
func splitIn(service *unstructured.Unstructured, primary, field string) (router.Traffic, bool) {
	entries, _, err := unstructured.NestedSlice(service.Object, field, "traffic")
	if err != nil {
		return router.Traffic{}, false
	}
	canaryWeight, hasCanary := percentOf(entries, func(e map[string]any) bool { return e["latestRevision"] == true })
	primaryWeight, hasPrimary := percentOf(entries, func(e map[string]any) bool {
		// The latest revision may be the primary as well, and is then listed under both roles.
		return e["latestRevision"] != true && e["revisionName"] == primary
	})
	return router.Traffic{Primary: primaryWeight, Canary: canaryWeight}, hasCanary && hasPrimary && canaryWeight+primaryWeight == 100
}

// percentOf returns the share of the first entry that fits. One without percent gets no traffic.
func percentOf(entries []any, fits func(map[string]any) bool) (int32, bool) {
	for _, item := range entries {
		entry, ok := item.(map[string]any)
		if !ok || !fits(entry) {
			continue
		}
		percent, _, err := unstructured.NestedInt64(entry, "percent")
		return int32(percent), err == nil
	}
	return 0, false
}

// report is what Knative says of the routes of a Service.
func report(service *unstructured.Unstructured) router.Observed {
	observed, found, err := unstructured.NestedInt64(service.Object, "status", "observedGeneration")
	switch {
	case err == nil && !found:
		return router.Observed{Silent: true, Reason: "Knative has not reported on the Service"}
	case err != nil || observed < service.GetGeneration():
		return router.Observed{Reason: "Knative has not seen the newest change of the Service"}
	}
	conditions, _, err := unstructured.NestedSlice(service.Object, "status", "conditions")
	if err != nil {
		return router.Observed{Reason: fmt.Sprintf("status.conditions: %v", err)}
	}
	for _, item := range conditions {
		condition, ok := item.(map[string]any)
		if !ok || condition["type"] != "RoutesReady" {
			continue
		}
		if condition["status"] == "True" {
			return router.Observed{Settled: true}
		}
		return router.Observed{Reason: fmt.Sprintf("RoutesReady is %v: %v", condition["status"], condition["message"])}
	}
	return router.Observed{Silent: true, Reason: "the condition RoutesReady is missing"}
}
