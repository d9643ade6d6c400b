package node

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// file of a projected volume.
type file struct {
	data []byte
	mode fs.FileMode
}

// payload is the content of a projected volume: relative path to file.
type payload map[string]file

// tokenSource makes ServiceAccount tokens for the pod.
type tokenSource func(projection *corev1.ServiceAccountTokenProjection) (string, error)

// isProjected says whether the volume's content comes from the API.
func isProjected(v *corev1.Volume) bool {
	return v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
}

// volumePayload reads the content of a volume for which isProjected holds.
func volumePayload(v *corev1.Volume, facts podFacts, refs objects, token tokenSource) (payload, error) {
	out := payload{}
	sources, defaultMode := volumeSources(v)
	for _, source := range sources {
		part, err := sourcePayload(source, defaultMode, facts, refs, token)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Name, err)
		}
		maps.Copy(out, part)
	}
	return out, nil
}

// volumeSources treats each kind of volume as a projected one.
func volumeSources(v *corev1.Volume) ([]corev1.VolumeProjection, *int32) {
	switch {
	case v.ConfigMap != nil:
		return []corev1.VolumeProjection{{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: v.ConfigMap.LocalObjectReference, Items: v.ConfigMap.Items, Optional: v.ConfigMap.Optional,
		}}}, v.ConfigMap.DefaultMode
	case v.Secret != nil:
		return []corev1.VolumeProjection{{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: v.Secret.SecretName}, Items: v.Secret.Items, Optional: v.Secret.Optional,
		}}}, v.Secret.DefaultMode
	case v.DownwardAPI != nil:
		return []corev1.VolumeProjection{{DownwardAPI: &corev1.DownwardAPIProjection{Items: v.DownwardAPI.Items}}}, v.DownwardAPI.DefaultMode
	case v.Projected != nil:
		return v.Projected.Sources, v.Projected.DefaultMode
	}
	return nil, nil
}

func sourcePayload(source corev1.VolumeProjection, defaultMode *int32, facts podFacts, refs objects, token tokenSource) (payload, error) {
	mode := fs.FileMode(0o644)
	if defaultMode != nil {
		mode = fs.FileMode(*defaultMode)
	}
	switch {
	case source.ConfigMap != nil:
		cm, err := refs.ConfigMap(source.ConfigMap.Name)
		if err != nil {
			return nil, unlessOptional(err, source.ConfigMap.Optional)
		}
		data := maps.Clone(cm.BinaryData)
		if data == nil {
			data = map[string][]byte{}
		}
		for key, value := range cm.Data {
			data[key] = []byte(value)
		}
		return keyPayload("ConfigMap "+cm.Namespace+"/"+cm.Name, data, source.ConfigMap.Items, source.ConfigMap.Optional, mode)
	case source.Secret != nil:
		secret, err := refs.Secret(source.Secret.Name)
		if err != nil {
			return nil, unlessOptional(err, source.Secret.Optional)
		}
		return keyPayload("Secret "+secret.Namespace+"/"+secret.Name, secret.Data, source.Secret.Items, source.Secret.Optional, mode)
	case source.DownwardAPI != nil:
		return downwardPayload(source.DownwardAPI.Items, facts, mode)
	case source.ServiceAccountToken != nil:
		value, err := token(source.ServiceAccountToken)
		if err != nil {
			return nil, fmt.Errorf("token of ServiceAccount %s: %w", facts.pod.Spec.ServiceAccountName, err)
		}
		return payload{source.ServiceAccountToken.Path: {[]byte(value), mode}}, nil
	}
	return nil, errors.New("a projected source is of a kind this node does not know (configMap, secret, downwardAPI, serviceAccountToken)")
}

func keyPayload(object string, data map[string][]byte, items []corev1.KeyToPath, optional *bool, mode fs.FileMode) (payload, error) {
	out := payload{}
	if len(items) == 0 {
		for key, value := range data {
			out[key] = file{value, mode}
		}
		return out, nil
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			if isTrue(optional) {
				continue
			}
			return nil, fmt.Errorf("%s has no key %q", object, item.Key)
		}
		itemMode := mode
		if item.Mode != nil {
			itemMode = fs.FileMode(*item.Mode)
		}
		out[item.Path] = file{value, itemMode}
	}
	return out, nil
}

func downwardPayload(items []corev1.DownwardAPIVolumeFile, facts podFacts, mode fs.FileMode) (payload, error) {
	out := payload{}
	for _, item := range items {
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = fieldValue(item.FieldRef.FieldPath, facts)
		case item.ResourceFieldRef != nil:
			c := findContainer(facts.pod, item.ResourceFieldRef.ContainerName)
			if c == nil {
				return nil, fmt.Errorf("resourceFieldRef.containerName %q is no container of the pod", item.ResourceFieldRef.ContainerName)
			}
			value, err = resourceValue(item.ResourceFieldRef, c)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", item.Path, err)
		}
		itemMode := mode
		if item.Mode != nil {
			itemMode = fs.FileMode(*item.Mode)
		}
		out[item.Path] = file{[]byte(value), itemMode}
	}
	return out, nil
}

func findContainer(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// dataLink names the directory that holds the current content.
const dataLink = "..data"

// writePayload replaces the content of dir at once, in the way programs that
// watch such volumes rely on: every file is a link through ..data, a link
// that is switched to a new directory in one rename.
func writePayload(dir string, content payload) error {
	next, err := os.MkdirTemp(dir, "..")
	if err != nil {
		return fmt.Errorf("write volume: %w", err)
	}
	// MkdirTemp makes it private to the owner; programs may run as others.
	if err := os.Chmod(next, 0o755); err != nil {
		return fmt.Errorf("write volume: %w", err)
	}
	for path, f := range content {
		if err := writeVolumeFile(filepath.Join(next, path), f); err != nil {
			return err
		}
	}
	previous, _ := os.Readlink(filepath.Join(dir, dataLink))
	temporary := filepath.Join(dir, "..data_tmp")
	if err := os.Symlink(filepath.Base(next), temporary); err != nil {
		return fmt.Errorf("write volume: %w", err)
	}
	if err := os.Rename(temporary, filepath.Join(dir, dataLink)); err != nil {
		return fmt.Errorf("write volume: %w", err)
	}
	if err := linkVolumeFiles(dir, content); err != nil {
		return err
	}
	if previous == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(dir, previous))
}

func writeVolumeFile(path string, f file) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write volume: %w", err)
	}
	if err := os.WriteFile(path, f.data, f.mode); err != nil {
		return fmt.Errorf("write volume: %w", err)
	}
	// Once more, because the umask took its part.
	return os.Chmod(path, f.mode)
}

// linkVolumeFiles makes the first path element of every file visible and
// removes what is no longer there.
func linkVolumeFiles(dir string, content payload) error {
	wanted := map[string]bool{}
	for path := range content {
		first, _, _ := strings.Cut(filepath.Clean(path), "/")
		wanted[first] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list volume: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, "..") {
			continue
		}
		if wanted[name] {
			delete(wanted, name)
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("remove old file of volume: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("write volume: %w", err)
		}
	}
	return nil
}

// refersTo says whether the pod's volumes or environments use the ConfigMap
// ("ConfigMap") or Secret ("Secret") of its namespace.
func refersTo(pod *corev1.Pod, kind, name string) bool {
	for i := range pod.Spec.Volumes {
		sources, _ := volumeSources(&pod.Spec.Volumes[i])
		for _, source := range sources {
			if kind == "ConfigMap" && source.ConfigMap != nil && source.ConfigMap.Name == name ||
				kind == "Secret" && source.Secret != nil && source.Secret.Name == name {
				return true
			}
		}
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if envRefersTo(&c, kind, name) {
			return true
		}
	}
	return false
}

func envRefersTo(c *corev1.Container, kind, name string) bool {
	for _, from := range c.EnvFrom {
		if kind == "ConfigMap" && from.ConfigMapRef != nil && from.ConfigMapRef.Name == name ||
			kind == "Secret" && from.SecretRef != nil && from.SecretRef.Name == name {
			return true
		}
	}
	for _, v := range c.Env {
		if v.ValueFrom == nil {
			continue
		}
		if kind == "ConfigMap" && v.ValueFrom.ConfigMapKeyRef != nil && v.ValueFrom.ConfigMapKeyRef.Name == name ||
			kind == "Secret" && v.ValueFrom.SecretKeyRef != nil && v.ValueFrom.SecretKeyRef.Name == name {
			return true
		}
	}
	return false
}
