package loadtester

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
)

// valueOpen is what an open gate has as its value.
const valueOpen = "open"

// ConfigMapGates are Gates whose state is in a ConfigMap, so that a restart forgets none and all replicas know the same. Every check
// reads it from the API server: whoever was told that a gate is open may rely on that with any replica.
type ConfigMapGates struct {
	Client          kubernetes.Interface
	Namespace, Name string
}

// keyOf has the namespace before the name, as a dot can only be in that: no two gates have the same key.
func keyOf(g Gate) (string, error) {
	key := g.Kind + "." + g.Namespace + "." + g.Name
	if problems := validation.IsConfigMapKey(key); len(problems) > 0 {
		return "", fmt.Errorf("%q is no key of a ConfigMap: %s", key, problems[0])
	}
	return key, nil
}

// Open is whether the ConfigMap says so. Without a ConfigMap all gates are closed.
func (c *ConfigMapGates) Open(ctx context.Context, g Gate) (bool, error) {
	key, err := keyOf(g)
	if err != nil {
		return false, err
	}
	found, err := c.Client.CoreV1().ConfigMaps(c.Namespace).Get(ctx, c.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, c.explain(err)
	}
	return found.Data[key] == valueOpen, nil
}

// Set writes the one key of the gate, so that replicas don't undo what others write meanwhile. It makes the ConfigMap if there is none.
func (c *ConfigMapGates) Set(ctx context.Context, g Gate, open bool) error {
	key, err := keyOf(g)
	if err != nil {
		return err
	}
	// Null removes a key.
	var value any
	if open {
		value = valueOpen
	}
	patch, err := json.Marshal(map[string]any{"data": map[string]any{key: value}})
	if err != nil {
		return err
	}
	maps := c.Client.CoreV1().ConfigMaps(c.Namespace)
	write := func() error {
		_, err := maps.Patch(ctx, c.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}
	if err = write(); !apierrors.IsNotFound(err) {
		return c.explain(err)
	}
	if !open {
		return nil
	}
	_, err = maps.Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: c.Name}, Data: map[string]string{key: valueOpen},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		err = write()
	}
	return c.explain(err)
}

func (c *ConfigMapGates) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("ConfigMap %s/%s of -gates-configmap: %w", c.Namespace, c.Name, err)
}
