package fingerprint

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/randfill"
)

const podinfoTemplate = `{
	"metadata": {"labels": {"app": "podinfo"}},
	"spec": {
		"containers": [{
			"name": "podinfod", "image": "ghcr.io/stefanprodan/podinfo:6.0.0",
			"ports": [{"containerPort": 9898, "name": "http", "protocol": "TCP"}],
			"resources": {"limits": {"cpu": "1", "memory": "128Mi"}, "requests": {"cpu": "1m", "memory": "16Mi"}},
			"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent"
		}],
		"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "securityContext": {},
		"schedulerName": "default-scheduler"
	}
}`

func decodedObject(t *testing.T, text string) map[string]any {
	t.Helper()
	var object map[string]any
	if err := kjson.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	return object
}

// The vectors are those of contract section 11.1, computed by Flagger with k8s.io/api v0.36.
func TestFlaggerVectors(t *testing.T) {
	parked := strings.Replace(podinfoTemplate, `"restartPolicy"`, `"nodeSelector": {"flagger.app/scale-to-zero": "true"}, "restartPolicy"`, 1)
	for name, c := range map[string]struct {
		hash     func(map[string]any) (string, error)
		template string
		want     string
	}{
		"empty":            {FlaggerDeployment, `{}`, "85748b7f68"},
		"Deployment":       {FlaggerDeployment, podinfoTemplate, "69f856df46"},
		"DaemonSet":        {FlaggerDaemonSet, podinfoTemplate, "97b98d8f9"},
		"parked DaemonSet": {FlaggerDaemonSet, parked, "97b98d8f9"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.hash(decodedObject(t, `{"spec":{"template":`+c.template+`}}`))
			if err != nil || got != c.want {
				t.Errorf("hash %s, %v; want %s", got, err, c.want)
			}
		})
	}
	if got := FlaggerName("hello-00001"); got != "79f999666f" {
		t.Errorf("revision of Knative: %s", got)
	}
}

func TestFlaggerChecksumVectors(t *testing.T) {
	for want, status := range map[string]struct {
		configs *map[string]string
		applied string
	}{
		"758df7c9fc": {nil, ""},
		"844fcbbb88": {FlaggerConfigs(map[string]string{}), "5d5f4b8c7"},
		"774f89d99f": {FlaggerConfigs(map[string]string{"configmap/a": "0123456789abcdef", "secret/b": "fedcba9876543210"}), "5d5f4b8c7"},
	} {
		if got := FlaggerChecksum(status.configs, status.applied); got != want {
			t.Errorf("checksum %s, want %s", got, want)
		}
	}
}

func TestFlaggerRefuses(t *testing.T) {
	for name, hash := range map[string]func(map[string]any) (string, error){
		"Deployment": FlaggerDeployment, "DaemonSet": FlaggerDaemonSet, "Service": FlaggerService,
	} {
		for _, object := range []map[string]any{
			{}, {"spec": "x"}, decodedObject(t, `{"spec":{"template":{"spec":{"containers":3}},"ports":3}}`),
		} {
			if got, err := hash(object); err == nil || got != "" {
				t.Errorf("%s of %v: %q, %v", name, object, got, err)
			}
		}
	}
}

// Flagger's client may ask for JSON or for protobuf. What it gets is one Go value, so one hash.
func TestFlaggerHashIsThatOfEveryEncoding(t *testing.T) {
	filler := randfill.NewWithSeed(1).NilChance(0.3).NumElements(1, 2).Funcs(
		func(q *resource.Quantity, c randfill.Continue) {
			*q = resource.MustParse([]string{"0", "1", "100m", "1500m", "16Mi", "128974848", "1e3", "0.5Gi", "12345678901234567890"}[c.Intn(9)])
		},
		func(v *intstr.IntOrString, c randfill.Continue) { *v = intstr.FromInt32(c.Int31()) },
		func(m *metav1.ObjectMeta, c randfill.Continue) {
			c.FillNoCustom(&m.Labels)
			c.FillNoCustom(&m.Annotations)
		},
	)
	for range 200 {
		var template, over corev1.PodTemplateSpec
		filler.Fill(&template)
		wire, err := template.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := over.Unmarshal(wire); err != nil {
			t.Fatal(err)
		}
		// What the API server stores went over the wire once, and is what both encodings are made from.
		raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(over.DeepCopy())
		if err != nil {
			t.Fatal(err)
		}
		got, err := FlaggerDeployment(map[string]any{"spec": map[string]any{"template": raw}})
		if err != nil {
			t.Fatal(err)
		}
		if want := flaggerHash(over); got != want {
			t.Fatalf("JSON gives %s, protobuf %s for %+v", got, want, over)
		}
	}
}
