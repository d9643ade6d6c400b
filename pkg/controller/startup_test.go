package controller

import (
	"context"
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

type serverVersion string

func (v serverVersion) ServerVersion() (*version.Info, error) {
	if v == "" {
		return nil, errors.New("connection refused")
	}
	return &version.Info{GitVersion: string(v)}, nil
}

func TestCheckServer(t *testing.T) {
	templates := schema.GroupResource{Group: "flagger.app", Resource: "metrictemplates"}
	for name, test := range map[string]struct {
		version serverVersion
		list    error
		want    []string
	}{
		"fine":           {version: "v1.36.3"},
		"vendor suffix":  {version: "v1.29.1-gke.100"},
		"too old":        {version: "v1.10.9", want: []string{"unsupported version", "1.11.0"}},
		"too new":        {version: "v2.0.0", want: []string{"unsupported version", "2.0.0"}},
		"no version":     {want: []string{"connection refused"}},
		"CRD is missing": {version: "v1.36.3", list: apierrors.NewNotFound(templates, ""), want: []string{"MetricTemplate CRD is not registered", "artifacts/flagger/crd.yaml"}},
		"no permission":  {version: "v1.36.3", list: apierrors.NewForbidden(templates, "", nil), want: []string{"MetricTemplate objects", "artifacts/flagger/account.yaml"}},
		"not reachable":  {version: "v1.36.3", list: errors.New("no route to host"), want: []string{"no route to host", "-kubeconfig"}},
	} {
		t.Run(name, func(t *testing.T) {
			client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
				canaryResource: "CanaryList",
				v1beta1.SchemeGroupVersion.WithResource("metrictemplates"): "MetricTemplateList",
				v1beta1.SchemeGroupVersion.WithResource("alertproviders"):  "AlertProviderList",
			})
			client.PrependReactor("list", "metrictemplates", func(clienttesting.Action) (bool, runtime.Object, error) {
				return test.list != nil, nil, test.list
			})
			err := CheckServer(context.Background(), test.version, client, "")
			if (err == nil) != (len(test.want) == 0) {
				t.Fatalf("got %v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not mention %q", err, want)
				}
			}
		})
	}
}
