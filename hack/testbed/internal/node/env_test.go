package node

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// objectSet has objects by name.
type objectSet struct {
	configMaps map[string]*corev1.ConfigMap
	secrets    map[string]*corev1.Secret
}

func (s objectSet) ConfigMap(name string) (*corev1.ConfigMap, error) {
	if cm, ok := s.configMaps[name]; ok {
		return cm, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
}

func (s objectSet) Secret(name string) (*corev1.Secret, error) {
	if secret, ok := s.secrets[name]; ok {
		return secret, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}

var testObjects = objectSet{
	configMaps: map[string]*corev1.ConfigMap{"cfg": {
		ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: "cfg"}, Data: map[string]string{"color": "blue", "not a name": "x"},
	}},
	secrets: map[string]*corev1.Secret{"sec": {
		ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: "sec"}, Data: map[string][]byte{"password": []byte("hidden")},
	}},
}

var testFacts = podFacts{
	pod: &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: "pod-1", UID: "u-1", Labels: map[string]string{"app": "podinfo", "b/c": "d"}},
		Spec:       corev1.PodSpec{NodeName: "node-0", ServiceAccountName: "robot"},
	},
	podIP: "10.244.0.2", nodeIP: "10.244.255.1",
}

func field(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
}

func TestContainerEnv(t *testing.T) {
	yes := true
	c := &corev1.Container{
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{
			"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("64Mi"),
		}},
		EnvFrom: []corev1.EnvFromSource{
			{Prefix: "CFG_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Optional: &yes}},
		},
		Env: []corev1.EnvVar{
			{Name: "IP", ValueFrom: field("status.podIP")},
			{Name: "NODE", ValueFrom: field("spec.nodeName")},
			{Name: "APP", ValueFrom: field("metadata.labels['app']")},
			{Name: "URL", Value: "http://$(IP):80/$(NOTHING)/$$(IP)"},
			{Name: "BASE", Value: "overridden"},
			{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
			{Name: "MEM", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}}},
			{Name: "PW", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "sec"}, Key: "password"}}},
			{Name: "GONE", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, Key: "none", Optional: &yes}}},
		},
	}
	got, err := containerEnv(map[string]string{"BASE": "x", "KEPT": "y"}, c, testFacts, testObjects)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"BASE": "overridden", "KEPT": "y", "CFG_color": "blue", "IP": "10.244.0.2", "NODE": "node-0", "APP": "podinfo",
		"URL": "http://10.244.0.2:80/$(NOTHING)/$(IP)", "CPU": "2", "MEM": "64", "PW": "hidden",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestContainerEnvNamesWhatIsMissing(t *testing.T) {
	for _, row := range []struct {
		from corev1.EnvVarSource
		want string
	}{
		{corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, Key: "none"}}, "key none in ConfigMap test/cfg"},
		{corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Key: "x"}}, `"none" not found`},
		{*field("metadata.nonsense"), "metadata.nonsense"},
	} {
		_, err := containerEnv(map[string]string{}, &corev1.Container{Env: []corev1.EnvVar{{Name: "X", ValueFrom: &row.from}}}, testFacts, testObjects)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("error %v does not say %q", err, row.want)
		}
	}
}

func TestServiceEnv(t *testing.T) {
	service := func(namespace, name, ip string, ports ...corev1.ServicePort) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: ports}}
	}
	services := []*corev1.Service{
		service("default", "kubernetes", "10.96.0.1", corev1.ServicePort{Name: "https", Port: 443, Protocol: "TCP"}),
		service("test", "my-app", "10.96.0.7", corev1.ServicePort{Port: 80, Protocol: "TCP"}),
		service("test", "headless", "None", corev1.ServicePort{Port: 80, Protocol: "TCP"}),
		service("other", "far", "10.96.0.8", corev1.ServicePort{Port: 80, Protocol: "TCP"}),
	}
	api := map[string]string{
		"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443", "KUBERNETES_SERVICE_PORT_HTTPS": "443",
		"KUBERNETES_PORT": "tcp://10.96.0.1:443", "KUBERNETES_PORT_443_TCP": "tcp://10.96.0.1:443",
		"KUBERNETES_PORT_443_TCP_PROTO": "tcp", "KUBERNETES_PORT_443_TCP_PORT": "443", "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1",
	}
	no := false
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "test"}, Spec: corev1.PodSpec{EnableServiceLinks: &no}}
	if diff := cmp.Diff(api, serviceEnv(services, pod)); diff != "" {
		t.Errorf("without links (-want +got):\n%s", diff)
	}
	pod.Spec.EnableServiceLinks = nil
	got := serviceEnv(services, pod)
	if got["MY_APP_SERVICE_HOST"] != "10.96.0.7" || got["MY_APP_PORT"] != "tcp://10.96.0.7:80" {
		t.Errorf("the Service of the namespace is missing in %v", got)
	}
	if _, ok := got["FAR_SERVICE_HOST"]; ok {
		t.Error("a Service of another namespace is there")
	}
}
