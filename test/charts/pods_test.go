package charts

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// violations are those of the Pod Security Standard restricted, by the Deployment whose pods they are of.
func violations(t *testing.T, objects []*unstructured.Unstructured) map[string]string {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, u := range objects {
		found, ok, err := unstructured.NestedMap(u.Object, "spec", "template")
		if !ok || err != nil {
			continue
		}
		template := &corev1.PodTemplateSpec{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(found, template, true); err != nil {
			t.Fatal(err)
		}
		results := evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &template.ObjectMeta, &template.Spec)
		if result := policy.AggregateCheckResults(results); !result.Allowed {
			all[u.GetName()] = result.ForbiddenDetail()
		}
	}
	return all
}

func TestRestrictedPods(t *testing.T) {
	for chart, of := range sets {
		for name, values := range of {
			objects, _ := render(t, chart, cluster{}, values)
			refused := violations(t, objects)
			switch {
			// Its users leave the context to OpenShift.
			case name == "openshift" && refused[chart] == "":
				t.Error("without a security context the pods would be accepted, so this test sees nothing")
			case name != "openshift" && len(refused) > 0:
				t.Errorf("chart %s, values %q: %v", chart, name, refused)
			}
		}
	}
	pod := deployment(t, rendered(t, flaggerSets["openshift"]), "flagger").Spec.Template.Spec
	if pod.Containers[0].SecurityContext != nil || pod.SecurityContext != nil {
		t.Errorf("OpenShift would refuse %v and %v", pod.Containers[0].SecurityContext, pod.SecurityContext)
	}
}
