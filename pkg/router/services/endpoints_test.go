package services_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
)

func TestEndpoints(t *testing.T) {
	type object = map[string]any
	slice := func(endpoints []any, ports ...any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: object{"endpoints": endpoints, "ports": ports}}
	}
	ready, unready := object{"conditions": object{"ready": true}}, object{"conditions": object{"ready": false}}
	main, other := object{"name": "http", "port": int64(15000), "protocol": "TCP"}, object{"name": "metrics", "port": int64(9797)}
	for name, c := range map[string]struct {
		slices []*unstructured.Unstructured
		// edit is what is wanted after the Services were made for the port "web".
		edit func(*v1beta1.CanaryService)
		want services.Endpoints
	}{
		"no endpoints yet":         {want: services.Endpoints{Wanted: true, Used: true}},
		"no ready pods":            {slices: []*unstructured.Unstructured{slice([]any{unready}, main)}, want: services.Endpoints{Wanted: true, Used: true}},
		"ready pods without ports": {slices: []*unstructured.Unstructured{slice([]any{ready})}, want: services.Endpoints{Wanted: true, Used: true, Ready: true}},
		"ready pods with another port": {slices: []*unstructured.Unstructured{slice([]any{unready, ready}, other)},
			want: services.Endpoints{Wanted: true, Used: true, Ready: true}},
		"some pods with the port": {slices: []*unstructured.Unstructured{slice([]any{ready}, other), slice([]any{ready}, other, main)},
			want: services.Endpoints{Wanted: true, Used: true, Ready: true, Served: true}},
		"pods that do not say": {slices: []*unstructured.Unstructured{slice([]any{object{}}, main)},
			want: services.Endpoints{Wanted: true, Used: true, Ready: true, Served: true}},
		"another name is wanted now": {slices: []*unstructured.Unstructured{slice([]any{ready}, main)},
			edit: func(s *v1beta1.CanaryService) { s.TargetPort = intstr.FromString("grpc") },
			want: services.Endpoints{Used: true, Ready: true, Served: true}},
		"another port of the Service for the same name": {slices: []*unstructured.Unstructured{slice([]any{ready}, main)},
			edit: func(s *v1beta1.CanaryService) { s.Port, s.PortName = 80, "web" },
			want: services.Endpoints{Wanted: true, Used: true, Ready: true, Served: true}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(s *v1beta1.CanaryService) { s.TargetPort = intstr.FromString("web") })
			_, primary, canary := services.Refs(w.canary)
			if got, err := services.EndpointsOf(w.canary, primary, input(), w.store, c.slices); err != nil || got != (services.Endpoints{}) {
				t.Errorf("without Services: %+v, %v", got, err)
			}
			w.apply()
			if c.edit != nil {
				c.edit(&w.canary.Spec.Service)
			}
			for _, side := range []router.Ref{primary, canary} {
				if got, err := services.EndpointsOf(w.canary, side, input(), w.store, c.slices); err != nil || got != c.want {
					t.Errorf("%s: got %+v, %v, want %+v", side, got, err, c.want)
				}
			}
		})
	}
}
