package addon

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"flagger.app/flagger/hack/testbed/internal/build"
	"flagger.app/flagger/hack/testbed/internal/manifest"
)

// Knative serves containers. All its own parts run, as pods, from its own
// manifests. What implements its ingresses comes from other projects, whose
// modules cannot be had: whoever uses it has to do their part.
const Knative Kind = "knative"

// knativeNamespace is where Knative's manifests put its parts.
const knativeNamespace = "knative-serving"

// Modules of Knative.
const (
	knativeServing    = "knative.dev/serving"
	knativeNetworking = "knative.dev/networking"
	knativeCaching    = "knative.dev/caching"
)

// knativePrograms are the folders in cmd of its parts; queue runs beside each
// container that it serves.
func knativePrograms() []string {
	return []string{"controller", "webhook", "autoscaler", "activator", "queue"}
}

// knativeProgram is the component of a part.
func knativeProgram(part string) string { return "knative-" + part }

// knativeImages maps the images in Knative's manifests to its components.
func knativeImages() map[string]string {
	images := map[string]string{}
	for _, part := range knativePrograms() {
		images[knativeServing+"/cmd/"+part] = knativeProgram(part)
	}
	return images
}

// knativeManifest is a pattern for files of manifests.
type knativeManifest struct{ component, module, path string }

// knativeManifests are those that make up Knative, in the order in which they
// depend on each other.
func knativeManifests() []knativeManifest {
	return []knativeManifest{
		{"knative-caching", knativeCaching, "config/image.yaml"},
		{"knative-certificates", knativeNetworking, "config/certificate.yaml"},
		{"knative-networking", knativeNetworking, "config/[dis]*.yaml"},
		{"knative-core", knativeServing, "config/core/*.yaml"},
		{"knative-resources", knativeServing, "config/core/300-resources/*.yaml"},
		{"knative-network", knativeNetworking, "config/config-network.yaml"},
		{"knative-roles", knativeServing, "config/core/200-roles/*.yaml"},
		{"knative-configmaps", knativeServing, "config/core/configmaps/*.yaml"},
		{"knative-webhooks", knativeServing, "config/core/webhooks/*.yaml"},
		{"knative-deployments", knativeServing, "config/core/deployments/*.yaml"},
	}
}

func knativeComponents(dir string) []build.Component {
	at := filepath.Join(dir, "tools", "knative")
	var all []build.Component
	for _, part := range knativePrograms() {
		all = append(all, build.Component{
			Name: knativeProgram(part), Recipe: build.GoModule{Dir: at, Package: knativeServing + "/cmd/" + part},
		})
	}
	for _, m := range knativeManifests() {
		all = append(all, build.Component{Name: m.component, Recipe: build.ModuleFile{Dir: at, Module: m.module, File: m.path}})
	}
	return all
}

// startKnative applies Knative's manifests and waits until its parts work.
func (c Config) startKnative(ctx context.Context) error {
	applier, err := manifest.NewApplier(c.Admin)
	if err != nil {
		return err
	}
	for _, m := range knativeManifests() {
		content, err := os.ReadFile(c.Programs[m.component])
		if err != nil {
			return err
		}
		// The tool that builds Knative's images puts their names here.
		content = bytes.ReplaceAll(content, []byte("ko://"), nil)
		if err := applier.Apply(ctx, content, knativeNamespace); err != nil {
			return fmt.Errorf("%s: %w", m.component, err)
		}
	}
	client, err := kubernetes.NewForConfig(c.Admin)
	if err != nil {
		return err
	}
	return awaitDeployments(ctx, client, knativeNamespace)
}

// awaitDeployments returns when all Deployments of a namespace have their pods.
func awaitDeployments(ctx context.Context, client kubernetes.Interface, namespace string) error {
	const timeout, every = 5 * time.Minute, 200 * time.Millisecond
	missing := ""
	poll := func(ctx context.Context) (bool, error) {
		list, err := client.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		missing = ""
		for i := range list.Items {
			if d := &list.Items[i]; d.Spec.Replicas == nil || d.Status.AvailableReplicas < *d.Spec.Replicas {
				missing = d.Name
			}
		}
		return missing == "", nil
	}
	err := wait.PollUntilContextTimeout(ctx, every, timeout, true, poll)
	if wait.Interrupted(err) && ctx.Err() == nil {
		return fmt.Errorf("deployment %s/%s has not got ready within %s", namespace, missing, timeout)
	}
	return err
}
