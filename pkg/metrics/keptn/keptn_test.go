package keptn

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	k8stesting "k8s.io/client-go/testing"

	"flagger.app/flagger/pkg/metrics/conformance"
	"flagger.app/flagger/pkg/metrics/provider"
)

func cluster(objects ...runtime.Object) *fake.FakeDynamicClient {
	return fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		resource("keptnmetrics"): "KeptnMetricList", resource("analyses"): "AnalysisList",
	}, objects...)
}

func object(kind, name string, status map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "metrics.keptn.sh/v1beta1", "kind": kind,
		"metadata": map[string]any{"name": name, "namespace": "apps"}, "status": status,
	}}
}

func build(t *testing.T, kube *fake.FakeDynamicClient) provider.Provider {
	t.Helper()
	p, err := New(kube, &conformance.Clock{})(provider.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMetric(t *testing.T) {
	for name, tc := range map[string]struct {
		status map[string]any
		want   conformance.Answer
	}{
		"a value":  {map[string]any{"value": "98.5"}, conformance.Answer{Value: 98.5}},
		"no value": {map[string]any{}, conformance.Answer{Is: provider.ErrNoValues}},
		"a number": {map[string]any{"value": int64(7)}, conformance.Answer{Is: provider.ErrNoValues}},
		"NaN":      {map[string]any{"value": "NaN"}, conformance.Answer{Is: provider.ErrNoValues}},
		"infinity": {map[string]any{"value": "+Inf"}, conformance.Answer{Is: provider.ErrNoValues}},
		"text":     {map[string]any{"value": "many"}, conformance.Answer{Says: "not a number"}},
	} {
		t.Run(name, func(t *testing.T) {
			value, err := build(t, cluster(object("KeptnMetric", "errors", tc.status))).Query(t.Context(), "KeptnMetric/apps/Errors\n")
			conformance.Expect(t, tc.want, value, err)
		})
	}
	_, err := build(t, cluster()).Query(t.Context(), "keptnmetrics/apps/errors")
	conformance.Expect(t, conformance.Answer{Says: "KeptnMetric apps/errors"}, 0, err)
}

// keptn completes each Analysis at the third look at it.
func keptn(kube *fake.FakeDynamicClient, status map[string]any) (made *[]*unstructured.Unstructured) {
	made = new([]*unstructured.Unstructured)
	looks := 0
	kube.PrependReactor("create", "analyses", func(a k8stesting.Action) (bool, runtime.Object, error) {
		*made = append(*made, a.(k8stesting.CreateAction).GetObject().(*unstructured.Unstructured).DeepCopy())
		return false, nil, nil
	})
	kube.PrependReactor("get", "analyses", func(a k8stesting.Action) (bool, runtime.Object, error) {
		if looks++; looks < 3 {
			return false, nil, nil
		}
		return true, object("Analysis", a.(k8stesting.GetAction).GetName(), status), nil
	})
	return made
}

func TestAnalysis(t *testing.T) {
	for name, tc := range map[string]struct {
		status map[string]any
		value  float64
	}{
		"passes": {map[string]any{"state": "Completed", "pass": true}, 1},
		"fails":  {map[string]any{"state": "Completed", "pass": false}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			kube := cluster()
			made := keptn(kube, tc.status)
			value, err := build(t, kube).Query(t.Context(), "analysis/apps/Response-Time/5m/workload=PodInfo;broken;a=b=c;version=1")
			conformance.Expect(t, conformance.Answer{Value: tc.value}, value, err)
			if len(*made) != 1 || !strings.HasPrefix((*made)[0].GetName(), "response-time-") {
				t.Fatalf("made %v", *made)
			}
			want := map[string]any{
				"timeframe": map[string]any{"recent": "5m"}, "analysisDefinition": map[string]any{"name": "response-time"},
				"args": map[string]any{"workload": "PodInfo", "version": "1"},
			}
			if diff := cmp.Diff(want, (*made)[0].Object["spec"]); diff != "" {
				t.Error(diff)
			}
			gone(t, kube)
		})
	}
}

func gone(t *testing.T, kube *fake.FakeDynamicClient) {
	t.Helper()
	left, err := kube.Resource(resource("analyses")).Namespace("apps").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(left.Items) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestAnalysisWithoutEnd(t *testing.T) {
	kube := cluster()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := build(t, kube).Query(ctx, "analyses/apps/response-time")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "Analysis apps/response-time-") {
		t.Errorf("got %v", err)
	}
	gone(t, kube)
}

// What the API server answers instead is told with the object, whatever it is that is asked for.
func TestRefusals(t *testing.T) {
	group := resource("keptnmetrics").GroupResource()
	for says, refused := range map[string]error{
		"is forbidden":                 apierrors.NewForbidden(group, "errors", errors.New("no role allows it")),
		"Unauthorized":                 apierrors.NewUnauthorized("Unauthorized"),
		"too many requests":            apierrors.NewTooManyRequests("too many requests", 2),
		"Internal error occurred":      apierrors.NewInternalError(errors.New("etcd")),
		"could not find the requested": apierrors.NewGenericServerResponse(404, "get", group, "", "", 0, true),
		"connection refused":           errors.New("dial tcp 127.0.0.1:6443: connection refused"),
	} {
		kube := cluster()
		kube.PrependReactor("*", "*", func(k8stesting.Action) (bool, runtime.Object, error) { return true, nil, refused })
		for query, id := range map[string]string{"keptnmetric/apps/errors": "KeptnMetric apps/errors", "analysis/apps/errors": "Analysis apps/errors-"} {
			_, err := build(t, kube).Query(t.Context(), query)
			if err == nil || errors.Is(err, provider.ErrNoValues) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), id) {
				t.Errorf("%s: %v, want %q", id, err, says)
			}
		}
	}
}

func TestInvalidQueries(t *testing.T) {
	p := build(t, cluster())
	for _, query := range []string{"", "keptnmetric/apps", "pod/apps/errors"} {
		_, err := p.Query(t.Context(), query)
		conformance.Expect(t, conformance.Answer{Is: provider.ErrInvalidQuery}, 0, err)
	}
	if _, err := New(nil, nil)(provider.Config{}); err == nil {
		t.Error("no API server was missed")
	}
}
