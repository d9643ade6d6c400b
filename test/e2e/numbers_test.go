package e2e

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// A-10, D-05: numbers that the operator could not read never get into the cluster, and each answer names the field. One such
// Canary made the list of all unreadable, for every operator.
func TestA10_NumbersThatNobodyCanReadAreRefused(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	canaries := t.dynamic.Resource(v1beta1.SchemeGroupVersion.WithResource("canaries")).Namespace(t.ns)
	for name, c := range map[string]struct {
		value any
		path  []string
	}{
		"threshold with a fraction": {1.5, []string{"spec", "analysis", "threshold"}},
		"threshold beyond int32":    {int64(3e9), []string{"spec", "analysis", "threshold"}},
		"port with a fraction":      {80.5, []string{"spec", "service", "port"}},
		"weight with a fraction":    {2.5, []string{"spec", "analysis", "stepWeight"}},
		"endless deadline":          {int64(1e18), []string{"spec", "progressDeadlineSeconds"}},
		"weight below int32":        {int64(-3e9), []string{"spec", "analysis", "maxWeight"}},
		"text":                      {"many", []string{"spec", "analysis", "threshold"}},
	} {
		t.Run(name, func(sub *testing.T) {
			typed := canary()
			typed.APIVersion, typed.Kind = v1beta1.SchemeGroupVersion.String(), v1beta1.CanaryKind
			object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
			if err == nil {
				err = unstructured.SetNestedField(object, c.value, c.path...)
			}
			if err != nil {
				sub.Fatal(err)
			}
			_, err = canaries.Create(sub.Context(), &unstructured.Unstructured{Object: object}, metav1.CreateOptions{})
			if field := strings.Join(c.path, "."); err == nil || !strings.Contains(err.Error(), field) {
				sub.Errorf("error does not name %s: %v", field, err)
			}
		})
	}
}
