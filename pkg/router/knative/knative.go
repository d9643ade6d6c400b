// Package knative shifts traffic between two revisions of a Knative Service: the one that an annotation names as primary,
// and the latest one.
//
// Field reference: https://github.com/knative/specs/blob/main/specs/serving/knative-api-specification-1.0.md.
package knative

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

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
	return router.Abilities{Routes: true, Weights: true, ReportsSettled: true}
}

// Resources is the Service of Knative.
func (Provider) Resources() []router.Ref { return []router.Ref{Ref("", "")} }

// Sources is the target, whose annotation names the primary.
func (Provider) Sources(c *v1beta1.Canary) []router.Ref { return []router.Ref{target(c)} }

// Ref names a Knative Service.
func Ref(namespace, name string) router.Ref {
	return router.Ref{
		Resource:  schema.GroupVersionResource{Group: "serving.knative.dev", Version: "v1", Resource: "services"},
		Kind:      "Service",
		Namespace: namespace,
		Name:      name,
	}
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

// Read takes the weights from the status: it says what Knative routes now.
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
	entries, _, err := unstructured.NestedSlice(service.Object, "status", "traffic")
	if err != nil {
		return router.Observed{}, fmt.Errorf("%s: %w", ref, err)
	}
	canaryWeight, hasCanary := percentOf(entries, func(e map[string]any) bool { return e["latestRevision"] == true })
	primaryWeight, hasPrimary := percentOf(entries, func(e map[string]any) bool {
		// The latest revision may be the primary as well, and is then listed under both roles.
		return e["latestRevision"] != true && e["revisionName"] == primary
	})
	if !hasCanary || !hasPrimary || canaryWeight+primaryWeight != 100 {
		return router.Observed{}, fmt.Errorf("%s: status.traffic is not split between the latest revision and %s", ref, primary)
	}
	o := router.Observed{Traffic: router.Traffic{Primary: primaryWeight, Canary: canaryWeight}}
	o.Reason = unsettled(service)
	o.Settled = o.Reason == ""
	return o, nil
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

// unsettled says why the routes of a Service are not in force, empty when they are.
func unsettled(service *unstructured.Unstructured) string {
	observed, _, err := unstructured.NestedInt64(service.Object, "status", "observedGeneration")
	if err != nil || observed < service.GetGeneration() {
		return "Knative has not seen the newest change of the Service"
	}
	conditions, _, err := unstructured.NestedSlice(service.Object, "status", "conditions")
	if err != nil {
		return fmt.Sprintf("status.conditions: %v", err)
	}
	for _, item := range conditions {
		condition, ok := item.(map[string]any)
		if !ok || condition["type"] != "RoutesReady" {
			continue
		}
		if condition["status"] == "True" {
			return ""
		}
		return fmt.Sprintf("RoutesReady is %v: %v", condition["status"], condition["message"])
	}
	return "the condition RoutesReady is missing"
}
