package node

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// objects reads what a pod refers to in its namespace.
type objects interface {
	ConfigMap(name string) (*corev1.ConfigMap, error)
	Secret(name string) (*corev1.Secret, error)
}

// podFacts are the values of the downward API.
type podFacts struct {
	pod    *corev1.Pod
	podIP  string
	nodeIP string
}

// containerEnv is the environment of a container, later sources overriding
// earlier ones: base (image and service variables), envFrom, env.
func containerEnv(base map[string]string, c *corev1.Container, facts podFacts, refs objects) (map[string]string, error) {
	env := maps.Clone(base)
	for _, from := range c.EnvFrom {
		if err := addEnvFrom(env, from, refs); err != nil {
			return nil, err
		}
	}
	for _, v := range c.Env {
		if v.ValueFrom == nil {
			env[v.Name] = expand(v.Value, env)
			continue
		}
		value, found, err := envValueFrom(v.ValueFrom, c, facts, refs)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", v.Name, err)
		}
		if found {
			env[v.Name] = value
		}
	}
	return env, nil
}

func addEnvFrom(env map[string]string, from corev1.EnvFromSource, refs objects) error {
	switch {
	case from.ConfigMapRef != nil:
		cm, err := refs.ConfigMap(from.ConfigMapRef.Name)
		if err != nil {
			return unlessOptional(err, from.ConfigMapRef.Optional)
		}
		for key, value := range cm.Data {
			addNamed(env, from.Prefix+key, value)
		}
	case from.SecretRef != nil:
		secret, err := refs.Secret(from.SecretRef.Name)
		if err != nil {
			return unlessOptional(err, from.SecretRef.Optional)
		}
		for key, value := range secret.Data {
			addNamed(env, from.Prefix+key, string(value))
		}
	}
	return nil
}

// addNamed leaves keys out that cannot be variable names, as kubelet does.
func addNamed(env map[string]string, name, value string) {
	if len(validation.IsEnvVarName(name)) == 0 {
		env[name] = value
	}
}

func unlessOptional(err error, optional *bool) error {
	if optional != nil && *optional && apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func envValueFrom(from *corev1.EnvVarSource, c *corev1.Container, facts podFacts, refs objects) (value string, found bool, err error) {
	switch {
	case from.FieldRef != nil:
		value, err = fieldValue(from.FieldRef.FieldPath, facts)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err = resourceValue(from.ResourceFieldRef, c)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		cm, err := refs.ConfigMap(ref.Name)
		if err != nil {
			return "", false, unlessOptional(err, ref.Optional)
		}
		if value, found = cm.Data[ref.Key]; !found && !isTrue(ref.Optional) {
			return "", false, fmt.Errorf("couldn't find key %s in ConfigMap %s/%s", ref.Key, cm.Namespace, cm.Name)
		}
		return value, found, nil
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		secret, err := refs.Secret(ref.Name)
		if err != nil {
			return "", false, unlessOptional(err, ref.Optional)
		}
		data, found := secret.Data[ref.Key]
		if !found && !isTrue(ref.Optional) {
			return "", false, fmt.Errorf("couldn't find key %s in Secret %s/%s", ref.Key, secret.Namespace, secret.Name)
		}
		return string(data), found, nil
	}
	return "", false, fmt.Errorf("valueFrom names no source this node knows (fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef)")
}

func isTrue(b *bool) bool { return b != nil && *b }

// fieldValue is the value of a downward API field path.
func fieldValue(fieldPath string, facts podFacts) (string, error) {
	pod := facts.pod
	if name, key, ok := strings.Cut(fieldPath, "["); ok {
		key = strings.Trim(strings.TrimSuffix(key, "]"), `'"`)
		switch name {
		case "metadata.labels":
			return pod.Labels[key], nil
		case "metadata.annotations":
			return pod.Annotations[key], nil
		}
	}
	switch fieldPath {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return formatMap(pod.Labels), nil
	case "metadata.annotations":
		return formatMap(pod.Annotations), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs":
		return facts.podIP, nil
	case "status.hostIP", "status.hostIPs":
		return facts.nodeIP, nil
	}
	return "", fmt.Errorf("fieldPath %q is not known", fieldPath)
}

// formatMap writes labels the way downward API files have them.
func formatMap(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, fmt.Sprintf("%s=%q", key, m[key]))
	}
	return strings.Join(lines, "\n")
}

// resourceValue is a request or limit divided by the divisor, rounded up.
func resourceValue(ref *corev1.ResourceFieldSelector, c *corev1.Container) (string, error) {
	list, name, _ := strings.Cut(ref.Resource, ".")
	var quantity resource.Quantity
	switch list {
	case "limits":
		quantity = c.Resources.Limits[corev1.ResourceName(name)]
		// An unset limit means what the node can give.
		if quantity.IsZero() {
			quantity = nodeCapacity()[corev1.ResourceName(name)]
		}
	case "requests":
		quantity = c.Resources.Requests[corev1.ResourceName(name)]
	default:
		return "", fmt.Errorf("resourceFieldRef %q is neither limits.* nor requests.*", ref.Resource)
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == string(corev1.ResourceCPU) {
		return strconv.FormatInt(ceilDiv(quantity.MilliValue(), divisor.MilliValue()), 10), nil
	}
	return strconv.FormatInt(ceilDiv(quantity.Value(), divisor.Value()), 10), nil
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }

// expand replaces $(NAME) by its value. $$ stands for $, and what names no
// variable stays as it is.
func expand(s string, env map[string]string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			out.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			out.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i:], ')')
			if end < 0 {
				out.WriteByte('$')
				continue
			}
			reference := s[i : i+end+1]
			if value, ok := env[reference[2:len(reference)-1]]; ok {
				reference = value
			}
			out.WriteString(reference)
			i += end
		default:
			out.WriteByte('$')
		}
	}
	return out.String()
}

func expandAll(list []string, env map[string]string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = expand(s, env)
	}
	return out
}

// serviceEnv are the variables that tell a pod where Services are: always the
// API server, and the Services of its own namespace unless the pod opts out.
func serviceEnv(services []*corev1.Service, pod *corev1.Pod) map[string]string {
	env := map[string]string{}
	links := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	for _, svc := range services {
		isAPI := svc.Namespace == corev1.NamespaceDefault && svc.Name == "kubernetes"
		if !isAPI && (!links || svc.Namespace != pod.Namespace) {
			continue
		}
		if svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone || len(svc.Spec.Ports) == 0 {
			continue
		}
		addServiceEnv(env, svc)
	}
	return env
}

func addServiceEnv(env map[string]string, svc *corev1.Service) {
	variable := func(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }
	name, ip := variable(svc.Name), svc.Spec.ClusterIP
	env[name+"_SERVICE_HOST"] = ip
	env[name+"_SERVICE_PORT"] = strconv.Itoa(int(svc.Spec.Ports[0].Port))
	for i, port := range svc.Spec.Ports {
		number, protocol := strconv.Itoa(int(port.Port)), strings.ToLower(string(port.Protocol))
		if port.Name != "" {
			env[name+"_SERVICE_PORT_"+variable(port.Name)] = number
		}
		url := fmt.Sprintf("%s://%s:%s", protocol, ip, number)
		if i == 0 {
			env[name+"_PORT"] = url
		}
		prefix := fmt.Sprintf("%s_PORT_%s_%s", name, number, strings.ToUpper(protocol))
		env[prefix] = url
		env[prefix+"_PROTO"] = protocol
		env[prefix+"_PORT"] = number
		env[prefix+"_ADDR"] = ip
	}
}
