package e2e

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// elsewhere are kinds in renders of charts and overlays whose CRDs no Go module holds.
var elsewhere = []string{"AuthorizationPolicy", "VirtualNode", "Mesh"}

// monitoring are the kinds of the operator of Prometheus that charts and artifacts make.
var monitoring = []string{"PodMonitor", "ServiceMonitor", "PrometheusRule"}

// installMonitoring installs their CRDs once.
var installMonitoring = sync.OnceValue(func() error {
	b, err := shared()
	if err != nil {
		return err
	}
	for _, kind := range monitoring {
		file, err := downloadedFile("github.com/prometheus-operator/prometheus-operator@v0.85.0",
			"example/prometheus-operator-crd/monitoring.coreos.com_"+strings.ToLower(kind)+"s.yaml")
		if err != nil {
			return err
		}
		if err := b.install(context.Background(), file); err != nil {
			return err
		}
	}
	return nil
})

// installed are the objects in the renders of charts and overlays, which their own tests keep in testdata, by file.
func (t *team) installed(pattern string) map[string][]*unstructured.Unstructured {
	t.Helper()
	return t.objectsIn("test/charts/testdata/" + pattern)
}

// objectsIn are the objects in files of the repository, by folder and file.
func (t *team) objectsIn(pattern string) map[string][]*unstructured.Unstructured {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(os.Getenv("ROOT"), pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files at %s: %v", pattern, err)
	}
	found := map[string][]*unstructured.Unstructured{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		t.must(err)
		for _, document := range documents(string(raw), ".yaml") {
			u := &unstructured.Unstructured{}
			t.must(yaml.Unmarshal([]byte(document), &u.Object))
			name := filepath.Base(filepath.Dir(file)) + "/" + strings.TrimSuffix(filepath.Base(file), ".yaml")
			found[name] = append(found[name], u)
		}
	}
	return found
}

// TestInstallationsAreAccepted sends what charts, overlays and artifacts install to a namespace that enforces the Pod Security Standard restricted,
// and refuses fields that the API server does not know.
func TestInstallationsAreAccepted(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.restrict()
	unknown := elsewhere
	if err := installMonitoring(); err != nil {
		t.Logf("the CRDs of the operator of Prometheus can't be had, %v go unchecked: %v", monitoring, err)
		unknown = slices.Concat(elsewhere, monitoring)
	}
	mapper := t.mapper()
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict}
	manifests := t.installed("*/*.yaml")
	for _, plain := range []string{"account", "deployment", "prometheusrule"} {
		maps.Copy(manifests, t.objectsIn("artifacts/flagger/"+plain+".yaml"))
	}
	for name, objects := range manifests {
		for _, u := range objects {
			if slices.Contains(unknown, u.GetKind()) {
				continue
			}
			if err := t.send(mapper, u, dry); err != nil {
				t.Errorf("%s: %s %s: %v", name, u.GetKind(), u.GetName(), err)
			}
			if spec, ok, _ := unstructured.NestedMap(u.Object, "spec", "template", "spec"); ok && !strings.HasSuffix(name, "/openshift") {
				t.runs(name, spec, dry)
			}
		}
	}
}

func (t *team) mapper() meta.RESTMapper {
	t.Helper()
	groups, err := restmapper.GetAPIGroupResources(t.kube.Discovery())
	t.must(err)
	return restmapper.NewDiscoveryRESTMapper(groups)
}

// send creates an object, in the team's namespace if it has one. In a dry run, what has none gets a name of the team's own: another test may
// have made the object.
func (t *team) send(mapper meta.RESTMapper, u *unstructured.Unstructured, options metav1.CreateOptions) error {
	gvk := u.GroupVersionKind()
	mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return err
	}
	ns := ""
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		ns = t.ns
	} else if len(options.DryRun) > 0 {
		u.SetName(t.ns + "-" + u.GetName())
	}
	u.SetNamespace(ns)
	_, err = t.dynamic.Resource(mapping.Resource).Namespace(ns).Create(t.Context(), u, options)
	return err
}

// restrict makes the namespace one that enforces the Pod Security Standard restricted.
func (t *team) restrict() {
	t.Helper()
	ns, err := t.kube.CoreV1().Namespaces().Get(t.Context(), t.ns, metav1.GetOptions{})
	t.must(err)
	ns.Labels["pod-security.kubernetes.io/enforce"] = "restricted"
	_, err = t.kube.CoreV1().Namespaces().Update(t.Context(), ns, metav1.UpdateOptions{})
	t.must(err)
}

// runs is whether the namespace would let a pod of a template run: the admission of Deployments says nothing about that.
func (t *team) runs(name string, spec map[string]any, dry metav1.CreateOptions) {
	t.Helper()
	// Accounts and classes of priority are not there in a dry run.
	delete(spec, "serviceAccountName")
	delete(spec, "priorityClassName")
	pod := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "spec": spec}}
	pod.SetGenerateName("dry-")
	if _, err := t.dynamic.Resource(corev1.SchemeGroupVersion.WithResource("pods")).Namespace(t.ns).Create(t.Context(), pod, dry); err != nil {
		t.Errorf("%s: a pod: %v", name, err)
	}
}

// TestReplicasOfTheChart goes from one operator to several and back, as Helm 4 does it, by server-side apply.
func TestReplicasOfTheChart(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	renders := t.installed("flagger/*.yaml")
	for _, name := range []string{"flagger/default", "flagger/elected", "flagger/default"} {
		for _, u := range renders[name] {
			if u.GetKind() != "Deployment" {
				continue
			}
			u.SetNamespace(t.ns)
			t.must(unstructured.SetNestedField(u.Object, int64(0), "spec", "replicas"))
			// Helm leaves out what is null.
			if rolling, _, _ := unstructured.NestedMap(u.Object, "spec", "strategy", "rollingUpdate"); rolling == nil {
				unstructured.RemoveNestedField(u.Object, "spec", "strategy", "rollingUpdate")
			}
			if _, err := t.dynamic.Resource(deployments).Namespace(t.ns).Apply(t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "helm", Force: true}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestAccountOfTheChart rolls out with an operator that may do nothing but what the role of the chart says: of all providers, and of the
// one provider that it uses.
func TestAccountOfTheChart(tt *testing.T) {
	for name, render := range map[string]string{"all": "flagger/default", "one": "flagger/elected"} {
		tt.Run(name, func(tt *testing.T) {
			tt.Parallel()
			t := newTeam(tt)
			t.apply(podinfo(1))
			o := t.operate("-kubeconfig", t.account(t.installed("flagger/*.yaml")[render]), "-mesh-provider", "istio")
			t.create(canary(revertOnDeletion))
			t.allowed(o, v1beta1.CanaryPhaseInitialized)
			t.ship(v2)
			t.allowed(o, v1beta1.CanaryPhaseSucceeded)
			t.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics[0].TemplateVariables["value"] = "50" })
			t.ship(v3)
			t.allowed(o, v1beta1.CanaryPhaseFailed)
			t.deleteCanary()
			t.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "podinfo")
			if line := refusal(o.log.String()); line != "" {
				t.Errorf("the role is too small: %s", line)
			}
		})
	}
}

// install has pods of the chart run, as a render has them: two operators, of which one acts, and whatever else it has.
func (t *team) install(render string) {
	t.Helper()
	mapper := t.mapper()
	var made []string
	for _, u := range t.installed("flagger/*.yaml")[render] {
		// The release and the namespace that it watches are one here.
		t.must(t.send(mapper, t.renamed(u, "flagger-system", t.ns, "shop", t.ns), metav1.CreateOptions{}))
		if u.GetKind() == "Deployment" {
			made = append(made, u.GetName())
		}
	}
	for _, name := range made {
		t.wait(deployments, name, func(u *unstructured.Unstructured) bool {
			wanted, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
			ready, _, _ := unstructured.NestedInt64(u.Object, "status", "readyReplicas")
			return ready == wanted
		})
	}
}

// scraped has Prometheus scrape the pods of podinfo.
func scraped(manifest string) string {
	return strings.Replace(manifest, "    metadata: {labels: {app: podinfo}}",
		`    metadata: {labels: {app: podinfo}, annotations: {prometheus.io/scrape: "true", prometheus.io/port: "9898"}}`, 1)
}

// TestChartRuns has pods of the chart do all of it, as a namespaced install for each of these providers: two operators, of which one acts,
// under the account of the chart.
func TestChartRuns(tt *testing.T) {
	for _, p := range podProviders() {
		tt.Run(p.name, func(tt *testing.T) {
			tt.Parallel()
			t := newTeam(tt)
			p.serve(t)
			t.install(p.render)
			t.apply(podinfo(1))
			t.lives(p, "1s")
			t.canaryGoes()
			logs := t.logsOf(t.ns)
			if leaders := strings.Count(strings.Join(logs, ""), "acting as elected leader"); len(logs) != 2 || leaders != 1 {
				t.Errorf("%d leaders among %d pods", leaders, len(logs))
			}
		})
	}
}

// TestChartsPrometheusSees has a rollout judged by the Prometheus that the chart brings, from what the pods of the application tell it.
func TestChartsPrometheusSees(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.install("flagger/pod")
	t.apply(scraped(podinfo(1)))
	t.apply(`
apiVersion: flagger.app/v1beta1
kind: MetricTemplate
metadata: {name: scraped}
spec:
  provider: {type: prometheus, address: "http://flagger-prometheus:9090"}
  query: 100 * count(up{job="kubernetes-pods", kubernetes_namespace="{{ namespace }}", app="{{ target }}"} == 1)
`)
	t.create(canary(func(c *v1beta1.Canary) {
		c.Spec.Provider = ""
		// A scrape is up to 5 s away.
		c.Spec.Analysis.Threshold = 100
		c.Spec.Analysis.Metrics[0].TemplateRef.Name = "scraped"
	}))
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.ship(v2)
	t.settled(v1beta1.CanaryPhaseSucceeded)
	t.logsOf(t.ns)
}

// podProvider is a provider that pods of the chart, or of an overlay, roll out with.
type podProvider struct {
	name string
	// render is that of the chart for one namespace, overlay that of Kustomize.
	render, overlay string
	// namespace is the one of the overlay.
	namespace string
	// serve has the API server know what the provider writes.
	serve func(*team)
	shape func(*v1beta1.Canary)
}

func podProviders() []podProvider {
	return []podProvider{
		{
			name: "istio", render: "flagger/pod", overlay: "istio", namespace: "istio-system",
			serve: func(*team) {},
		},
		{
			name: "contour", render: "flagger/pod-contour", overlay: "contour", namespace: "projectcontour",
			serve: func(t *team) {
				file, err := downloadedFile("github.com/projectcontour/contour@v1.33.8", "examples/contour/01-crds.yaml")
				if err != nil {
					t.Skipf("the CRDs of Contour can't be had: %v", err)
				}
				t.must(t.bed.install(t.Context(), file))
			},
		},
		{
			name: "gatewayapi:v1", render: "flagger/pod-gatewayapi", overlay: "gatewayapi", namespace: "flagger-system",
			serve: func(t *team) {
				file, err := moduleFile("sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml")
				t.must(err)
				t.must(t.bed.install(t.Context(), file))
			},
			shape: func(c *v1beta1.Canary) { c.Spec.Service.GatewayRefs = []v1beta1.ParentReference{{Name: "gateway"}} },
		},
	}
}

// lives has the application go through a promotion and a rollback, under the provider of the operator's flags.
func (t *team) lives(p podProvider, interval string) {
	t.Helper()
	t.create(canary(revertOnDeletion, func(c *v1beta1.Canary) {
		c.Spec.Provider, c.Spec.Analysis.Interval = "", interval
		c.Spec.Analysis.StepWeight, c.Spec.Analysis.MaxWeight = 50, 50
		if p.shape != nil {
			p.shape(c)
		}
	}))
	t.settled(v1beta1.CanaryPhaseInitialized)
	t.ship(v2)
	t.settled(v1beta1.CanaryPhaseSucceeded)
	t.edit(func(s *v1beta1.CanarySpec) { s.Analysis.Metrics[0].TemplateVariables["value"] = "50" })
	t.ship(v3)
	t.settled(v1beta1.CanaryPhaseFailed)
	if traffic := t.routed(p.name); traffic != (router.Traffic{Primary: 100}) {
		t.Errorf("routes end at %s", traffic)
	}
	if _, image := t.replicas("podinfo-primary"); image != v2 {
		t.Errorf("the primary runs %s, want %s", image, v2)
	}
}

// logsOf returns what the pods of the operator in a namespace have said, and demands that nothing was refused to them.
func (t *team) logsOf(namespace string) (logs []string) {
	t.Helper()
	pods, err := t.kube.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	t.must(err)
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Spec.Containers[0].Name != "flagger" {
			continue
		}
		log, err := t.kube.CoreV1().Pods(namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
		t.must(err)
		if line := refusal(string(log)); line != "" {
			t.Errorf("the role is too small: %s", line)
		}
		logs = append(logs, string(log))
	}
	if len(logs) == 0 {
		t.Errorf("no operator runs in %s", namespace)
	}
	return logs
}

// allowed waits for a phase as settled does, and fails as soon as the operator is not allowed to do something.
func (t *team) allowed(o *operator, phase v1beta1.CanaryPhase) {
	t.Helper()
	t.until("a refusal, or "+string(phase), func(c *v1beta1.Canary) bool {
		said := o.log.String()
		for _, condition := range c.Status.Conditions {
			said += condition.Message + "\n"
		}
		if line := refusal(said); line != "" {
			t.Fatalf("the role is too small: %s", line)
		}
		return c.Status.Phase == phase && c.Status.Rollout != nil
	})
	t.settled(phase)
}

// refusal is the first line that tells of a refusal.
func refusal(text string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(strings.ToLower(line), "forbidden") {
			return line
		}
	}
	return ""
}

// account makes an account of the team's namespace, with the rules of all roles in a render, and returns a kubeconfig of it.
func (t *team) account(objects []*unstructured.Unstructured) string {
	t.Helper()
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "flagger"}}
	for _, u := range objects {
		if u.GetName() != "flagger" || (u.GetKind() != "Role" && u.GetKind() != "ClusterRole") {
			continue
		}
		raw, err := yaml.Marshal(u.Object["rules"])
		t.must(err)
		var rules []rbacv1.PolicyRule
		t.must(yaml.Unmarshal(raw, &rules))
		for _, rule := range rules {
			// Every account may read the version of Kubernetes, and a Role can't say so.
			if len(rule.NonResourceURLs) == 0 {
				role.Rules = append(role.Rules, rule)
			}
		}
	}
	create := metav1.CreateOptions{}
	_, err := t.kube.RbacV1().Roles(t.ns).Create(t.Context(), role, create)
	t.must(err)
	_, err = t.kube.RbacV1().RoleBindings(t.ns).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "flagger"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "flagger"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "flagger", Namespace: t.ns}},
	}, create)
	t.must(err)
	accounts := t.kube.CoreV1().ServiceAccounts(t.ns)
	_, err = accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "flagger"}}, create)
	t.must(err)
	token, err := accounts.CreateToken(t.Context(), "flagger", &authenticationv1.TokenRequest{}, create)
	t.must(err)
	return t.kubeconfigWith(t.config, token.Status.Token, t.ns)
}

// kubeconfigWith is a kubeconfig of an account for one cluster.
func (t *team) kubeconfigWith(of *rest.Config, token, namespace string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	t.must(clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"bed": {
			Server: of.Host, CertificateAuthority: of.CAFile, CertificateAuthorityData: of.CAData,
			InsecureSkipTLSVerify: of.Insecure, TLSServerName: of.ServerName,
		}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"flagger": {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{"bed": {Cluster: "bed", AuthInfo: "flagger", Namespace: namespace}},
		CurrentContext: "bed",
	}, file))
	return file
}
