package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/hack/testbed/internal/manifest"
)

// clusterClient does what a user does with kubectl.
type clusterClient struct {
	cfg     Config
	client  kubernetes.Interface
	dynamic dynamic.Interface
	applier *manifest.Applier
	// operatorNamespace and operatorSelector are where the operator runs.
	operatorNamespace string
	operatorSelector  string
}

func newClusterClient(cfg Config) (*clusterClient, error) {
	client, err := kubernetes.NewForConfig(cfg.Admin)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	dyn, err := dynamic.NewForConfig(cfg.Admin)
	if err != nil {
		return nil, fmt.Errorf("dynamic client: %w", err)
	}
	applier, err := manifest.NewApplier(cfg.Admin)
	if err != nil {
		return nil, err
	}
	return &clusterClient{cfg: cfg, client: client, dynamic: dyn, applier: applier}, nil
}

func (c *clusterClient) applyFile(ctx context.Context, path, namespace string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := c.applier.Apply(ctx, content, namespace); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return nil
}

func (c *clusterClient) createNamespace(ctx context.Context, name string) error {
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := c.client.CoreV1().Namespaces().Create(ctx, object, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	return nil
}

// installManifests are the operator's own, in the order they are applied.
func installManifests() []string { return []string{"crd.yaml", "account.yaml", "deployment.yaml"} }

// installDir is the folder of the manifests of the operator in the main module.
func installDir(root string) string { return filepath.Join(root, "artifacts", "flagger") }

// installOperator applies the operator's manifests as they are published, but
// for the arguments that suit this cluster.
func (c *clusterClient) installOperator(ctx context.Context) error {
	for _, name := range installManifests() {
		objects, err := readManifest(filepath.Join(installDir(c.cfg.Root), name))
		if err != nil {
			return err
		}
		for _, object := range objects {
			if err := c.prepareOperatorObject(ctx, object); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if err := c.applier.ApplyObjects(ctx, metav1.NamespaceDefault, objects...); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if c.operatorNamespace == "" {
		return fmt.Errorf("%s: no Deployment in the operator's manifests", installDir(c.cfg.Root))
	}
	return c.waitOperator(ctx)
}

func readManifest(path string) ([]*unstructured.Unstructured, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return manifest.Parse(content)
}

// prepareOperatorObject makes the object's namespace and, if it is the
// Deployment, sets the arguments.
func (c *clusterClient) prepareOperatorObject(ctx context.Context, object *unstructured.Unstructured) error {
	if namespace := object.GetNamespace(); namespace != "" {
		if err := c.createNamespace(ctx, namespace); err != nil {
			return err
		}
	}
	if object.GetKind() != "Deployment" {
		return nil
	}
	var deployment appsv1.Deployment
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &deployment); err != nil {
		return err
	}
	c.operatorNamespace = orDefault(deployment.Namespace, metav1.NamespaceDefault)
	c.operatorSelector = metav1.FormatLabelSelector(deployment.Spec.Selector)
	container := &deployment.Spec.Template.Spec.Containers[0]
	container.Args = setFlags(container.Args, map[string]string{
		"mesh-provider":         c.cfg.Gateway,
		"metrics-server":        c.cfg.MetricsServer,
		"min-analysis-interval": "1s",
	})
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&deployment)
	if err != nil {
		return err
	}
	delete(content, "status")
	object.Object = content
	object.SetAPIVersion("apps/v1")
	object.SetKind("Deployment")
	return nil
}

func orDefault(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

// setFlags returns the arguments with the flags set, whatever they were.
func setFlags(args []string, flags map[string]string) []string {
	kept := slices.DeleteFunc(slices.Clone(args), func(arg string) bool {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		_, ok := flags[name]
		return ok
	})
	for _, name := range sortedKeys(flags) {
		kept = append(kept, "-"+name+"="+flags[name])
	}
	return kept
}

// OperatorImage returns the image that the operator's Deployment names; root
// is the folder of the main module.
func OperatorImage(root string) (string, error) {
	path := filepath.Join(installDir(root), "deployment.yaml")
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var deployment appsv1.Deployment
	if err := yaml.Unmarshal(content, &deployment); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	containers := deployment.Spec.Template.Spec.Containers
	if len(containers) == 0 {
		return "", fmt.Errorf("%s: the Deployment has no containers", path)
	}
	return containers[0].Image, nil
}

// setImage releases a version and returns what the user would have typed.
func (c *clusterClient) setImage(ctx context.Context, version string) (string, error) {
	const container = "podinfod"
	image := podinfoImage(version)
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
		"containers": []any{map[string]string{"name": container, "image": image}},
	}}}})
	if err != nil {
		return "", err
	}
	_, err = c.client.AppsV1().Deployments(namespace).Patch(ctx, appName, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return "", fmt.Errorf("set image of deployment %s/%s: %w", namespace, appName, err)
	}
	return fmt.Sprintf("kubectl -n %s set image deployment/%s %s=%s", namespace, appName, container, image), nil
}

// operatorLog returns the last lines the operator wrote.
func (c *clusterClient) operatorLog(ctx context.Context) (string, error) {
	pods, err := c.client.CoreV1().Pods(c.operatorNamespace).List(ctx, metav1.ListOptions{LabelSelector: c.operatorSelector})
	if err != nil || len(pods.Items) == 0 {
		return "", err
	}
	lines := int64(25)
	log, err := c.client.CoreV1().Pods(c.operatorNamespace).
		GetLogs(pods.Items[0].Name, &corev1.PodLogOptions{TailLines: &lines}).DoRaw(ctx)
	return string(log), err
}
