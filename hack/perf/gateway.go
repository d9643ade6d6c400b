package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/utils/clock"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// gateway accepts every HTTPRoute, as the controller of a gateway does that sees it at once. No traffic goes through it.
type gateway struct {
	client dynamic.Interface
	clock  clock.PassiveClock
	log    func(error)
}

// run accepts routes until ctx ends. It returns once it has begun.
func (g *gateway) run(ctx context.Context) error {
	factory := dynamicinformer.NewDynamicSharedInformerFactory(g.client, 0)
	return follow(ctx, factory.ForResource(httpRoutes()).Informer(), g.log, g.accept)
}

func httpRoutes() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: gatewayv1.GroupName, Version: gatewayv1.GroupVersion.Version, Resource: "httproutes"}
}

// accept reports on the present generation of a route, for all its parents.
func (g *gateway) accept(ctx context.Context, route *unstructured.Unstructured) error {
	refs, _, err := unstructured.NestedSlice(route.Object, "spec", "parentRefs")
	if err != nil {
		return err
	}
	reported, _, err := unstructured.NestedSlice(route.Object, "status", "parents")
	if err != nil {
		return err
	}
	seen := fmt.Sprint(route.GetGeneration())
	for _, parent := range reported {
		conditions, _, _ := unstructured.NestedSlice(parent.(map[string]any), "conditions")
		if len(conditions) > 0 && fmt.Sprint(conditions[0].(map[string]any)["observedGeneration"]) == seen {
			return nil
		}
	}
	var parents []any
	for _, ref := range refs {
		condition := func(name string) map[string]any {
			return map[string]any{
				"type": name, "status": "True", "reason": name, "message": "", "observedGeneration": route.GetGeneration(),
				"lastTransitionTime": g.clock.Now().UTC().Format(time.RFC3339),
			}
		}
		parents = append(parents, map[string]any{
			"parentRef": ref, "controllerName": "example.com/simulated",
			"conditions": []any{condition(string(gatewayv1.RouteConditionAccepted)), condition(string(gatewayv1.RouteConditionResolvedRefs))},
		})
	}
	raw, err := json.Marshal(map[string]any{"status": map[string]any{"parents": parents}})
	if err != nil {
		return err
	}
	_, err = g.client.Resource(httpRoutes()).Namespace(route.GetNamespace()).
		Patch(ctx, route.GetName(), types.MergePatchType, raw, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("route %s: %w", route.GetName(), err)
	}
	return nil
}

// prometheus says that all requests succeed within 100 ms, and answers the question whether it is there.
func prometheus(ctx context.Context) (url string, err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		value, query := "100", r.FormValue("query")
		if query == "vector(1)" {
			value = "1"
		} else if strings.HasPrefix(query, "histogram_quantile") {
			value = "0.1"
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[0,%q]}]}}`, value)
	})}
	go func() { _ = server.Serve(listener) }()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return "http://" + listener.Addr().String(), nil
}
