package kube

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// A server with the codecs of the whole clientset understands what is sent, and is understood.
func TestClientSpeaksWithTheServer(t *testing.T) {
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	encoder := scheme.Codecs.WithoutConversion().EncoderForVersion(info.Serializer, schema.GroupVersion{})
	decoder := scheme.Codecs.WithoutConversion().DecoderToVersion(info.Serializer, nil)
	var calls []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls = append(calls, r.Method+" "+r.URL.Path)
		if strings.HasSuffix(r.URL.Path, "/missing") {
			w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
			w.WriteHeader(http.StatusNotFound)
			status := apierrors.NewNotFound(coordinationv1.Resource("leases"), "missing").Status()
			_ = encoder.Encode(&status, w)
			return
		}
		switch r.URL.Path {
		case "/version":
			_, _ = io.WriteString(w, `{"gitVersion":"v1.36.3"}`)
			return
		case "/apis/apps/v1", "/api/v1":
			_, _ = io.WriteString(w, `{"resources":[{"name":"deployments","namespaced":true}]}`)
			return
		}
		var object runtime.Object = &corev1.Secret{Data: map[string][]byte{"key": []byte("value")}}
		if strings.Contains(r.URL.Path, "/leases/") {
			object = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "7"}}
		}
		if r.Method != http.MethodGet {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			if object, err = runtime.Decode(decoder, body); err != nil || r.Header.Get("Content-Type") != runtime.ContentTypeProtobuf {
				t.Errorf("%s %s in %s: %v", r.Method, r.URL.Path, r.Header.Get("Content-Type"), err)
			}
		}
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
		_ = encoder.Encode(object, w)
	}))
	defer server.Close()
	c, err := NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, lease := t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: "lease"}}
	if err := c.CreateEvent(ctx, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: "event"}, Message: "hello"}); err != nil {
		t.Error(err)
	}
	if secret, err := c.Secret(ctx, "test", "secret"); err != nil || string(secret.Data["key"]) != "value" {
		t.Error(secret, err)
	}
	if got, err := c.GetLease(ctx, "test", "lease"); err != nil || got.ResourceVersion != "7" {
		t.Error(got, err)
	}
	if _, err := c.GetLease(ctx, "test", "missing"); !apierrors.IsNotFound(err) {
		t.Errorf("a lease that is not there: %v", err)
	}
	if got, err := c.CreateLease(ctx, lease); err != nil || got.Name != "lease" {
		t.Error(got, err)
	}
	if got, err := c.UpdateLease(ctx, lease); err != nil || got.Name != "lease" {
		t.Error(got, err)
	}
	for _, group := range []string{"apps/v1", "v1"} {
		if list, err := c.ServerResourcesForGroupVersion(group); err != nil || len(list.APIResources) != 1 || !list.APIResources[0].Namespaced {
			t.Error(list, err)
		}
	}
	if version, err := c.ServerVersion(); err != nil || version.GitVersion != "v1.36.3" {
		t.Error(version, err)
	}
	want := "POST /api/v1/namespaces/test/events GET /api/v1/namespaces/test/secrets/secret " +
		"GET /apis/coordination.k8s.io/v1/namespaces/test/leases/lease GET /apis/coordination.k8s.io/v1/namespaces/test/leases/missing " +
		"POST /apis/coordination.k8s.io/v1/namespaces/test/leases PUT /apis/coordination.k8s.io/v1/namespaces/test/leases/lease " +
		"GET /apis/apps/v1 GET /api/v1 GET /version"
	if got := strings.Join(calls, " "); got != want {
		t.Errorf("calls %s\nwant %s", got, want)
	}
}
