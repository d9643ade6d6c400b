package workload

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
	"flagger.app/flagger/pkg/router"
)

const (
	// trackingAnnotation on a ConfigMap or Secret opts out of being copied when its value begins with disable.
	trackingAnnotation = "flagger.app/config-tracking"
	// copyOfAnnotation on a copy holds the name of its source: two sources may ask for copies of the same name.
	copyOfAnnotation = "flagger.app/copy-of"
	// promotedConfigsAnnotation on a primary holds the checksums of the configs that its pods were started with.
	promotedConfigsAnnotation = "flagger.app/promoted-configs"

	configMapKind = "configmap"
	secretKind    = "secret"

	// digestField stands in a summarized ConfigMap or Secret in the place of what it contains.
	digestField = "digest"
)

// configKey names one ConfigMap or Secret of a namespace.
type configKey struct{ kind, name string }

// String is the key as it stands in a status.
func (k configKey) String() string { return k.kind + "/" + k.name }

func configKeyOf(s string) configKey {
	kind, name, _ := strings.Cut(s, "/")
	return configKey{kind, name}
}

func (k configKey) ref(namespace string) router.Ref {
	if k.kind == secretKind {
		return router.Ref{Resource: secretsResource(), Kind: "Secret", Namespace: namespace, Name: k.name}
	}
	return router.Ref{Resource: configMapsResource(), Kind: "ConfigMap", Namespace: namespace, Name: k.name}
}

func configMapsResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
}

func secretsResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
}

// configRef is one place in a pod spec that names a ConfigMap or Secret.
type configRef struct {
	configKey
	optional bool
	rename   func(string)
}

// configRefs lists the places in a pod spec that name a ConfigMap or Secret whose content reaches the containers: volumes,
// environment variables, and the sources of the environment.
func configRefs(podSpec map[string]any) []configRef {
	var refs []configRef
	add := func(parent map[string]any, field, kind, nameField string) {
		place := mapAt(parent, field)
		if name := stringAt(place, nameField); name != "" {
			optional, _ := place["optional"].(bool)
			refs = append(refs, configRef{configKey{kind, name}, optional, func(s string) { place[nameField] = s }})
		}
	}
	for _, volume := range mapsAt(podSpec, "volumes") {
		add(volume, "configMap", configMapKind, "name")
		add(volume, "secret", secretKind, "secretName")
		for _, source := range mapsAt(volume, "projected", "sources") {
			add(source, "configMap", configMapKind, "name")
			add(source, "secret", secretKind, "name")
		}
	}
	for _, list := range []string{"containers", "initContainers"} {
		for _, container := range mapsAt(podSpec, list) {
			for _, variable := range mapsAt(container, "env") {
				add(mapAt(variable, "valueFrom"), "configMapKeyRef", configMapKind, "name")
				add(mapAt(variable, "valueFrom"), "secretKeyRef", secretKind, "name")
			}
			for _, source := range mapsAt(container, "envFrom") {
				add(source, "configMapRef", configMapKind, "name")
				add(source, "secretRef", secretKind, "name")
			}
		}
	}
	return refs
}

func mapsAt(obj map[string]any, path ...string) []map[string]any {
	var out []map[string]any
	for _, item := range listAt(obj, path...) {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// mandatory maps what a pod spec refers to to whether its pods can't start without. One mandatory reference among several is
// enough.
func mandatory(podSpec map[string]any) map[configKey]bool {
	out := map[configKey]bool{}
	for _, ref := range configRefs(podSpec) {
		out[ref.configKey] = out[ref.configKey] || !ref.optional
	}
	return out
}

// renameConfigs makes a pod spec, which is changed in place, refer to the copies. The keys of names are as in a status.
func renameConfigs(podSpec map[string]any, names map[string]string) {
	for _, ref := range configRefs(podSpec) {
		if name, ok := names[ref.String()]; ok {
			ref.rename(name)
		}
	}
}

// digest identifies the content of a ConfigMap or Secret.
type digest struct {
	// all is the checksum of everything, data that of the data alone, as Flagger computes it.
	all, data string
}

// Summarize returns a ConfigMap or Secret with its content replaced by checksums, and what it needs not shared with the
// original. It is what caches should hold. Other objects, and summarized ones, are returned as they are.
func Summarize(u *unstructured.Unstructured) *unstructured.Unstructured {
	if _, done := u.Object[digestField]; done || (u.GetKind() != "ConfigMap" && u.GetKind() != "Secret") {
		return u
	}
	d := digestOf(u)
	out := &unstructured.Unstructured{Object: map[string]any{
		digestField: map[string]any{"all": d.all, "data": d.data},
	}}
	for _, field := range []string{"apiVersion", "kind", "type", "immutable"} {
		if value, ok := u.Object[field]; ok {
			out.Object[field] = value
		}
	}
	out.SetName(u.GetName())
	out.SetNamespace(u.GetNamespace())
	out.SetUID(u.GetUID())
	out.SetResourceVersion(u.GetResourceVersion())
	out.SetOwnerReferences(u.GetOwnerReferences())
	// The annotation of kubectl apply repeats the whole content.
	kept := u.GetAnnotations()
	maps.DeleteFunc(kept, func(key, _ string) bool { return key != trackingAnnotation && key != copyOfAnnotation })
	if len(kept) > 0 {
		out.SetAnnotations(kept)
	}
	return out
}

// Outline is a Secret of another type than those that are tracked. Its contents and its type are not known.
func Outline(m *metav1.PartialObjectMetadata) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "another", digestField: map[string]any{},
	}}
	u.SetName(m.Name)
	u.SetNamespace(m.Namespace)
	u.SetUID(m.UID)
	u.SetResourceVersion(m.ResourceVersion)
	u.SetOwnerReferences(m.OwnerReferences)
	return u
}

func digestOf(u *unstructured.Unstructured) digest {
	if d := mapAt(u.Object, digestField); d != nil {
		return digest{all: stringAt(d, "all"), data: stringAt(d, "data")}
	}
	if u.GetKind() == "Secret" {
		data := decoded(mapAt(u.Object, "data"))
		return digest{all: fingerprint.Data(data, nil), data: fingerprint.FlaggerData(data)}
	}
	data := map[string]string{}
	for key, value := range mapAt(u.Object, "data") {
		data[key], _ = value.(string)
	}
	if len(data) == 0 {
		data = nil
	}
	return digest{all: fingerprint.Data(data, decoded(mapAt(u.Object, "binaryData"))), data: fingerprint.FlaggerData(data)}
}

// decoded returns what base64 strings stand for, nil if there are none.
func decoded(fields map[string]any) map[string][]byte {
	if len(fields) == 0 {
		return nil
	}
	out := make(map[string][]byte, len(fields))
	for key, value := range fields {
		text, _ := value.(string)
		// The API server stores nothing that it can't decode.
		out[key], _ = base64.StdEncoding.DecodeString(text)
	}
	return out
}

// trackable is whether a ConfigMap or Secret is copied for the primary. Secrets of other types belong to Kubernetes itself
// or to an operator, which look for them by name.
func trackable(u *unstructured.Unstructured) bool {
	if strings.HasPrefix(annotationAt(u, trackingAnnotation), "disable") {
		return false
	}
	if u.GetKind() != "Secret" {
		return true
	}
	t := stringAt(u.Object, "type")
	return t == "" || slices.Contains(TrackedSecretTypes(), t)
}

// TrackedSecretTypes are the types of Secrets that are copied for a primary.
func TrackedSecretTypes() []string {
	return []string{"Opaque", "kubernetes.io/basic-auth", "kubernetes.io/ssh-auth", "kubernetes.io/tls"}
}

// copyNames lists the names that the copy of a config may have, the best first, in pairs: the name, and the one with which
// a copy that can't be changed is replaced. The second pair is for a config that somebody else's primary has a copy of.
func copyNames(c *v1beta1.Canary, key configKey, content string) [][2]string {
	mark := content[:min(len(content), 8)]
	pair := func(base string) [2]string {
		return [2]string{base + v1beta1.PrimarySuffix, base + "-" + mark + v1beta1.PrimarySuffix}
	}
	return [][2]string{pair(key.name), pair(key.name + "-" + c.Spec.TargetRef.Name)}
}

// namesIn finds the copies that the pod spec of a primary refers to.
func namesIn(c *v1beta1.Canary, present map[configKey]bool, configs map[string]string) map[string]string {
	names := map[string]string{}
	for s, content := range configs {
		key := configKeyOf(s)
		for _, name := range slices.Concat(pairs(copyNames(c, key, content))...) {
			if _, ok := present[configKey{key.kind, name}]; ok {
				names[s] = name
				break
			}
		}
	}
	return names
}

func pairs(list [][2]string) [][]string {
	var out [][]string
	for i := range list {
		out = append(out, list[i][:])
	}
	return out
}

// recordConfigs notes on a primary what its pods were started with.
func recordConfigs(p *unstructured.Unstructured, configs map[string]string) error {
	annotations := p.GetAnnotations()
	delete(annotations, promotedConfigsAnnotation)
	if len(configs) > 0 {
		data, err := json.Marshal(configs)
		if err != nil {
			return fmt.Errorf("%s of %s.%s: %w", promotedConfigsAnnotation, p.GetName(), p.GetNamespace(), err)
		}
		annotations[promotedConfigsAnnotation] = string(data)
	}
	p.SetAnnotations(annotations)
	return nil
}

// recordedConfigs is the reverse of recordConfigs.
func recordedConfigs(p *unstructured.Unstructured) map[string]string {
	var configs map[string]string
	if json.Unmarshal([]byte(annotationAt(p, promotedConfigsAnnotation)), &configs) != nil {
		return nil
	}
	return configs
}
