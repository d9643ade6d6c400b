package e2e

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"testing"

	"github.com/google/uuid"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/dump"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
)

// flaggerApp is an application with its Canary and all that Flagger 1.44 has made for it, written as Flagger writes it. The
// names of all objects begin with its name.
type flaggerApp struct {
	name     string
	phase    v1beta1.CanaryPhase
	provider string
	// pods is what the containers run, nothing for sleep.
	pods string
	// replicas are the pods of the primary, canary those of the target.
	replicas, canary int32
	// weight is what the routes give to the canary.
	weight int64
	// The traits that make Flagger write more, or otherwise.
	scaler, keda, configs, adopted, discovery, policy, abTest bool
	hooks                                                     []v1beta1.CanaryWebhook
	interval                                                  string
	// bad makes the metric of the analysis answer 50 of at least 99.
	bad bool
	// bare leaves out everything that is made once the primary is there.
	bare bool
	// status changes what Flagger's status of the phase is.
	status func(*v1beta1.CanaryStatus)
}

// updated is whether the target was changed since the Canary was created, copied whether the primary has that change.
func (a *flaggerApp) updated() bool {
	return a.phase != v1beta1.CanaryPhaseInitialized && a.phase != v1beta1.CanaryPhaseInitializing
}

func (a *flaggerApp) copied() bool {
	return a.phase == v1beta1.CanaryPhaseSucceeded || a.phase == v1beta1.CanaryPhasePromoting || a.phase == v1beta1.CanaryPhaseFinalising
}

func (a *flaggerApp) primary() string { return a.name + v1beta1.PrimarySuffix }

// leave creates the application, lets the Canary take it over, and stops where Flagger is in the phase. It creates the
// objects in the order in which Flagger does, through the types that Flagger knows.
func (t *team) leave(ctx context.Context, a *flaggerApp) error {
	target, err := t.leaveTarget(ctx, a)
	if err != nil {
		return err
	}
	c, err := t.flagger.FlaggerV1beta1().Canaries(t.ns).Create(ctx, a.object(), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	promoted := flaggerHash(target.Spec.Template)
	if err := t.leaveMade(ctx, a, c, target); err != nil {
		return err
	}
	if a.updated() {
		patch := fmt.Sprintf(`{"spec":{"replicas":%d,"template":{"spec":{"containers":[{"name":"app","image":%q}]}}}}`, a.canary, v2)
		target, err = t.kube.AppsV1().Deployments(t.ns).Patch(ctx, a.name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
		if err != nil {
			return err
		}
	}
	if a.copied() {
		if err := t.leavePromoted(ctx, a, target); err != nil {
			return err
		}
		promoted = flaggerHash(target.Spec.Template)
	}
	c.Status = a.flaggerStatus(flaggerHash(target.Spec.Template), promoted)
	_, err = t.flagger.FlaggerV1beta1().Canaries(t.ns).UpdateStatus(ctx, c, metav1.UpdateOptions{})
	return err
}

// leaveTarget creates what the user has.
func (t *team) leaveTarget(ctx context.Context, a *flaggerApp) (*appsv1.Deployment, error) {
	core := t.kube.CoreV1()
	if a.configs {
		if _, err := core.ConfigMaps(t.ns).Create(ctx, a.configMap(""), metav1.CreateOptions{}); err != nil {
			return nil, err
		}
		if _, err := core.Secrets(t.ns).Create(ctx, a.secret(""), metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	if a.scaler {
		if _, err := t.kube.AutoscalingV2().HorizontalPodAutoscalers(t.ns).Create(ctx, a.autoscaler(""), metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	if a.keda {
		if _, err := t.dynamic.Resource(scaledObjects).Namespace(t.ns).Create(ctx, a.scaledObject(""), metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	d := &appsv1.Deployment{}
	if err := yaml.Unmarshal([]byte(a.manifest()), d); err != nil {
		return nil, err
	}
	return t.kube.AppsV1().Deployments(t.ns).Create(ctx, d, metav1.CreateOptions{})
}

func (a *flaggerApp) manifest() string {
	command, reads := "[sleep, infinity]", ""
	if a.pods != "" {
		command = a.pods
	}
	if a.configs {
		reads = strings.ReplaceAll(`
        envFrom: [{configMapRef: {name: APP-settings}}, {secretRef: {name: APP-nowhere, optional: true}}]
        env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: APP-token, key: key}}}]
      volumes: [{name: all, projected: {sources: [{configMap: {name: APP-settings}}]}}]`, "APP", a.name)
	}
	return strings.NewReplacer("APP", a.name, "COMMAND", command, "IMAGE", v1, "REPLICAS", fmt.Sprint(a.canary)).Replace(`
apiVersion: apps/v1
kind: Deployment
metadata:
  name: APP
  labels: {app: APP, team: shop, kustomize.toolkit.fluxcd.io/name: apps}
  annotations: {example.com/owner: shop, kustomize.toolkit.fluxcd.io/ssa: merge}
spec:
  replicas: REPLICAS
  progressDeadlineSeconds: 60
  revisionHistoryLimit: 3
  strategy: {rollingUpdate: {maxUnavailable: 0}}
  selector: {matchLabels: {app: APP}}
  template:
    metadata:
      labels: {app: APP, tier: web}
      annotations: {prometheus.io/scrape: "true"}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 1
            podAffinityTerm: {topologyKey: kubernetes.io/hostname, labelSelector: {matchExpressions: [{key: app, operator: In, values: [APP, other]}]}}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: APP}}}
      containers:
      - name: app
        image: IMAGE
        command: COMMAND
        ports: [{name: http, containerPort: 9898}, {containerPort: 9797}]
        resources: {requests: {cpu: 1m, memory: 1Mi}}`) + reads
}

func (a *flaggerApp) configMap(suffix string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: a.name + "-settings" + suffix, Labels: map[string]string{"team": "shop"}},
		Data:       map[string]string{"COLOR": "<red> & " + a.name},
	}
}

func (a *flaggerApp) secret(suffix string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: a.name + "-token" + suffix},
		Data:       map[string][]byte{"key": []byte("first")}, Type: corev1.SecretTypeOpaque,
	}
}

func (a *flaggerApp) autoscaler(suffix string) *autoscalingv2.HorizontalPodAutoscaler {
	one, high := int32(1), int32(99)
	return &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: a.name + suffix, Labels: map[string]string{"team": "shop"}},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: a.name + suffix},
			MinReplicas:    &one, MaxReplicas: 4,
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &high},
			}}},
		},
	}
}

// scaledObject has the fields that Flagger copies, and in the copy the one that it adds. That of the target is paused.
func (a *flaggerApp) scaledObject(suffix string) *unstructured.Unstructured {
	spec := map[string]any{
		"scaleTargetRef":  map[string]any{"name": a.name + suffix, "kind": "Deployment", "apiVersion": "apps/v1"},
		"minReplicaCount": int64(1), "maxReplicaCount": int64(4), "cooldownPeriod": int64(30),
		"triggers": []any{map[string]any{"type": "prometheus", "name": "requests", "metadata": map[string]any{
			"serverAddress": "http://prometheus:9090", "threshold": "5", "query": `sum(rate(requests{app="` + a.name + suffix + `"}[1m]))`,
		}}},
	}
	if suffix != "" {
		spec["advanced"] = map[string]any{"horizontalPodAutoscalerConfig": map[string]any{}}
	}
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": map[string]any{"name": a.name + suffix}, "spec": spec,
	}}
	u.SetLabels(map[string]string{"team": "shop"})
	own := map[string]string{"example.com/owner": "shop"}
	if suffix == "" {
		own[pausedReplicas] = "0"
	}
	u.SetAnnotations(own)
	return u
}

// object is the Canary as the user wrote it.
func (a *flaggerApp) object() *v1beta1.Canary {
	low, query := 99.0, "vector(100)"
	if a.bad {
		query = "vector(50)"
	}
	c := &v1beta1.Canary{
		ObjectMeta: metav1.ObjectMeta{Name: a.name},
		Spec: v1beta1.CanarySpec{
			Provider:  a.provider,
			TargetRef: v1beta1.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: a.name},
			Service:   v1beta1.CanaryService{Port: 80, TargetPort: intstr.FromString("http"), PortDiscovery: a.discovery},
			Analysis: &v1beta1.CanaryAnalysis{
				Interval: "1m", Threshold: 2, StepWeight: 20, MaxWeight: 60, Webhooks: a.hooks,
				Metrics: []v1beta1.CanaryMetric{{Name: "constant", Query: query, ThresholdRange: &v1beta1.CanaryThresholdRange{Min: &low}}},
			},
		},
	}
	if a.interval != "" {
		c.Spec.Analysis.Interval = a.interval
	}
	if a.scaler {
		c.Spec.AutoscalerRef = &v1beta1.AutoscalerReference{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler", Name: a.name}
	}
	if a.keda {
		c.Spec.AutoscalerRef = &v1beta1.AutoscalerReference{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject", Name: a.name}
	}
	if a.provider == "kubernetes" || a.abTest {
		c.Spec.Analysis.StepWeight, c.Spec.Analysis.MaxWeight, c.Spec.Analysis.Iterations = 0, 0, 3
	}
	if a.abTest {
		c.Spec.Analysis.Match = []v1beta1.AnalysisMatch{{Headers: map[string]v1beta1.StringMatch{"x-canary": {Exact: "insider"}}}}
	}
	if a.policy {
		c.Spec.Service.TrafficPolicy = &v1beta1.TrafficPolicy{TLS: &v1beta1.TLSSettings{Mode: "DISABLE"}}
	}
	return c
}

// leaveMade creates what Flagger makes at bootstrap.
func (t *team) leaveMade(ctx context.Context, a *flaggerApp, c *v1beta1.Canary, target *appsv1.Deployment) error {
	owner := *metav1.NewControllerRef(c, v1beta1.SchemeGroupVersion.WithKind("Canary"))
	for _, side := range []struct{ suffix, value string }{{v1beta1.CanarySuffix, a.name}, {v1beta1.PrimarySuffix, a.primary()}} {
		if err := t.leaveService(ctx, a, a.name+side.suffix, side.value, owner); err != nil {
			return err
		}
	}
	if a.configs {
		if err := t.leaveCopies(ctx, a, owner); err != nil {
			return err
		}
	}
	if _, err := t.kube.AppsV1().Deployments(t.ns).Create(ctx, a.flaggerPrimary(target, owner), metav1.CreateOptions{}); err != nil || a.bare {
		return err
	}
	if a.scaler {
		copied := a.autoscaler(v1beta1.PrimarySuffix)
		copied.OwnerReferences = []metav1.OwnerReference{owner}
		if _, err := t.kube.AutoscalingV2().HorizontalPodAutoscalers(t.ns).Create(ctx, copied, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	if a.keda {
		copied := a.scaledObject(v1beta1.PrimarySuffix)
		copied.SetOwnerReferences([]metav1.OwnerReference{owner})
		if _, err := t.dynamic.Resource(scaledObjects).Namespace(t.ns).Create(ctx, copied, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	if err := t.leaveService(ctx, a, a.name, a.primary(), owner); err != nil {
		return err
	}
	if a.provider == "istio" {
		return t.leaveIstio(ctx, a, owner)
	}
	return nil
}

func toolkitOff() map[string]string {
	return map[string]string{
		"helm.toolkit.fluxcd.io/driftDetection": "disabled", "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
	}
}

// leaveService creates one of the three Services. The apex of an adopted one is the user's: it has only its selector, its
// ports and two annotations from Flagger.
func (t *team) leaveService(ctx context.Context, a *flaggerApp, name, value string, owner metav1.OwnerReference) error {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{"app": name}, Annotations: toolkitOff(), OwnerReferences: []metav1.OwnerReference{owner},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, Selector: map[string]string{"app": value},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}
	if a.discovery {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{
			Name: "tcp-app-1", Protocol: corev1.ProtocolTCP, Port: 9797, TargetPort: intstr.FromInt32(9797),
		})
	}
	if a.adopted && name == a.name {
		s.OwnerReferences, s.Labels, s.Spec.Type = nil, map[string]string{"mine": "yes"}, corev1.ServiceTypeNodePort
		s.Annotations["example.com/mine"] = "yes"
	}
	_, err := t.kube.CoreV1().Services(t.ns).Create(ctx, s, metav1.CreateOptions{})
	return err
}

// leaveCopies creates the copies of the configs: data, type and the Canary as the owner, but neither labels nor annotations.
func (t *team) leaveCopies(ctx context.Context, a *flaggerApp, owner metav1.OwnerReference) error {
	cm, secret := a.configMap(v1beta1.PrimarySuffix), a.secret(v1beta1.PrimarySuffix)
	cm.Labels = nil
	cm.OwnerReferences, secret.OwnerReferences = []metav1.OwnerReference{owner}, []metav1.OwnerReference{owner}
	if _, err := t.kube.CoreV1().ConfigMaps(t.ns).Create(ctx, cm, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err := t.kube.CoreV1().Secrets(t.ns).Create(ctx, secret, metav1.CreateOptions{})
	return err
}

// flaggerPrimary is the primary as Flagger creates it.
func (a *flaggerApp) flaggerPrimary(target *appsv1.Deployment, owner metav1.OwnerReference) *appsv1.Deployment {
	annotations := map[string]string{}
	for key, value := range target.Annotations {
		if !strings.Contains(key, "toolkit.fluxcd.io") {
			annotations[key] = value
		}
	}
	label := map[string]string{"app": a.primary()}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: a.primary(), Labels: label, Annotations: annotations, OwnerReferences: []metav1.OwnerReference{owner}},
		Spec: appsv1.DeploymentSpec{
			Replicas: &a.replicas, Selector: &metav1.LabelSelector{MatchLabels: label}, Template: a.flaggerTemplate(target),
			ProgressDeadlineSeconds: target.Spec.ProgressDeadlineSeconds, MinReadySeconds: target.Spec.MinReadySeconds,
			RevisionHistoryLimit: target.Spec.RevisionHistoryLimit, Strategy: target.Spec.Strategy,
		},
	}
}

// flaggerTemplate is the pod template of a primary as Flagger makes it, with a random id.
func (a *flaggerApp) flaggerTemplate(target *appsv1.Deployment) corev1.PodTemplateSpec {
	template := *target.Spec.Template.DeepCopy()
	template.Labels["app"] = a.primary()
	template.Annotations["flagger-id"] = uuid.NewString()
	spec := &template.Spec
	spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution[0].PodAffinityTerm.LabelSelector.MatchExpressions[0].Values[0] = a.primary()
	spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels["app"] = a.primary()
	if a.configs {
		spec.Containers[0].EnvFrom[0].ConfigMapRef.Name += v1beta1.PrimarySuffix
		spec.Containers[0].Env[0].ValueFrom.SecretKeyRef.Name += v1beta1.PrimarySuffix
		spec.Volumes[0].Projected.Sources[0].ConfigMap.Name += v1beta1.PrimarySuffix
	}
	return template
}

// leavePromoted copies the target to the primary as Flagger promotes: with another id, and without the labels and
// annotations of the object that -include-label-prefix does not name.
func (t *team) leavePromoted(ctx context.Context, a *flaggerApp, target *appsv1.Deployment) error {
	primary, err := t.kube.AppsV1().Deployments(t.ns).Get(ctx, a.primary(), metav1.GetOptions{})
	if err != nil {
		return err
	}
	patch := map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{"example.com/owner": nil}},
		"spec":     map[string]any{"template": a.flaggerTemplate(target)},
	}
	_, err = t.dynamic.Resource(deployments).Namespace(t.ns).Patch(ctx, primary.Name, types.MergePatchType, marshal(patch), metav1.PatchOptions{})
	return err
}

func marshal(value any) []byte {
	raw, err := yaml.Marshal(value)
	if err == nil {
		raw, err = yaml.YAMLToJSON(raw)
	}
	if err != nil {
		panic(err)
	}
	return raw
}

// leaveIstio creates the objects of Istio. Flagger's Service router leaves its label in the metadata of the apex.
func (t *team) leaveIstio(ctx context.Context, a *flaggerApp, owner metav1.OwnerReference) error {
	for _, suffix := range []string{v1beta1.CanarySuffix, v1beta1.PrimarySuffix} {
		spec := map[string]any{"host": a.name + suffix}
		if a.policy {
			spec["trafficPolicy"] = map[string]any{"tls": map[string]any{"mode": "DISABLE"}}
		}
		rule := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "networking.istio.io/v1beta1", "kind": "DestinationRule",
			"metadata": map[string]any{"name": a.name + suffix}, "spec": spec,
		}}
		rule.SetOwnerReferences([]metav1.OwnerReference{owner})
		if _, err := t.dynamic.Resource(destinationRules).Namespace(t.ns).Create(ctx, rule, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	service := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService", "metadata": map[string]any{"name": a.name},
		"spec": map[string]any{"hosts": []any{a.name}, "gateways": []any{"mesh"}, "http": a.flaggerRoutes()},
	}}
	service.SetLabels(map[string]string{"app": a.name})
	service.SetAnnotations(toolkitOff())
	service.SetOwnerReferences([]metav1.OwnerReference{owner})
	_, err := t.dynamic.Resource(virtualServices).Namespace(t.ns).Create(ctx, service, metav1.CreateOptions{})
	return err
}

func (a *flaggerApp) flaggerRoutes() []any {
	to := func(suffix string, weight int64) any {
		return map[string]any{"destination": map[string]any{"host": a.name + suffix}, "weight": weight}
	}
	primary, canary := to(v1beta1.PrimarySuffix, 100-a.weight), to(v1beta1.CanarySuffix, a.weight)
	if !a.abTest {
		return []any{map[string]any{"route": []any{primary, canary}}}
	}
	insiders := []any{map[string]any{"headers": map[string]any{"x-canary": map[string]any{"exact": "insider"}}}}
	return []any{
		map[string]any{"match": insiders, "route": []any{primary, canary}},
		map[string]any{"route": []any{primary}},
	}
}

// flaggerStatus is what Flagger writes in a phase.
func (a *flaggerApp) flaggerStatus(applied, promoted string) v1beta1.CanaryStatus {
	configs := map[string]string{}
	if a.configs {
		configs["configmap/"+a.name+"-settings"] = fingerprint.FlaggerData(a.configMap("").Data)
		configs["secret/"+a.name+"-token"] = fingerprint.FlaggerData(a.secret("").Data)
	}
	now := metav1.Now().Rfc3339Copy()
	condition := v1beta1.CanaryCondition{
		Type: v1beta1.PromotedType, Status: corev1.ConditionUnknown, Reason: string(a.phase), LastUpdateTime: now, LastTransitionTime: now,
	}
	switch a.phase {
	case v1beta1.CanaryPhaseInitialized:
		condition.Status, condition.Message = corev1.ConditionTrue, "Deployment initialization completed."
	case v1beta1.CanaryPhaseSucceeded:
		condition.Status, condition.Message = corev1.ConditionTrue, "Canary analysis completed successfully, promotion finished."
	case v1beta1.CanaryPhaseFailed:
		condition.Status, condition.Message = corev1.ConditionFalse, "Canary analysis failed, Deployment scaled to zero."
	}
	status := v1beta1.CanaryStatus{
		Phase: a.phase, LastAppliedSpec: applied, LastPromotedSpec: promoted, TrackedConfigs: &configs,
		LastTransitionTime: now, Conditions: []v1beta1.CanaryCondition{condition},
	}
	if a.status != nil {
		a.status(&status)
	}
	return status
}

// flaggerHash is Flagger's hash of a pod template (contract section 3.3.1).
func flaggerHash(template corev1.PodTemplateSpec) string {
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, dump.ForHash(template))
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}

// The hashes in the statuses that the tests take over are those that Flagger computes (contract section 11.1).
func TestFlaggersHash(t *testing.T) {
	quantities := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	grace := int64(30)
	podinfo := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "podinfo"}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name: "podinfod", Image: "ghcr.io/stefanprodan/podinfo:6.0.0",
				Ports:                  []corev1.ContainerPort{{Name: "http", ContainerPort: 9898, Protocol: corev1.ProtocolTCP}},
				Resources:              corev1.ResourceRequirements{Limits: quantities("1", "128Mi"), Requests: quantities("1m", "16Mi")},
				TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
				ImagePullPolicy: corev1.PullIfNotPresent,
			}},
			RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace, DNSPolicy: corev1.DNSClusterFirst,
			SecurityContext: &corev1.PodSecurityContext{}, SchedulerName: corev1.DefaultSchedulerName,
		},
	}
	for want, template := range map[string]corev1.PodTemplateSpec{"85748b7f68": {}, "69f856df46": podinfo} {
		if got := flaggerHash(template); got != want {
			t.Errorf("hash %s, want %s", got, want)
		}
	}
}
