package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestInstall_CRDsThatKeepUnknownFields upgrades CRDs of a time when they kept unknown fields. No API server creates such any more, so that
// they are put where it stores them. Ours don't say that they keep none: Argo CD would see a difference in that for ever.
func TestInstall_CRDsThatKeepUnknownFields(tt *testing.T) {
	needsOwnBed(tt)
	t := newTeam(tt)
	m := newMeshCluster(t)
	kubectl := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "kubectl", append([]string{"--kubeconfig", m.kubeconfig}, args...)...)
		cmd.Dir = os.Getenv("ROOT")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := kubectl("apply", "-f", flaggerCRDs)
	if err != nil {
		t.Fatal(out)
	}
	names := []string{"canaries", "metrictemplates", "alertproviders"}
	for _, plural := range names {
		t.must(m.served(t.Context(), plural+".flagger.app"))
		m.keepUnknownFields(plural + ".flagger.app")
	}
	if out, err := kubectl("get", "crd", "canaries.flagger.app", "-o", "jsonpath={.spec.preserveUnknownFields}"); out != "true" {
		t.Fatalf("preserveUnknownFields is %s (%v): this test sees nothing", out, err)
	}
	for _, how := range [][]string{{"--server-side", "--force-conflicts"}, nil} {
		apply := append([]string{"apply", "-f", "charts/flagger/crds"}, how...)
		if out, err := kubectl(apply...); err == nil || !strings.Contains(out, "spec.preserveUnknownFields") {
			t.Errorf("%v before the patch: %v\n%s", how, err, out)
		}
	}
	for _, plural := range names {
		// As docs/install.md says.
		if out, err := kubectl("patch", "crd", plural+".flagger.app", "--type", "merge", "-p", `{"spec":{"preserveUnknownFields":false}}`); err != nil {
			t.Error(out)
		}
	}
	if out, err := kubectl("apply", "--server-side", "--force-conflicts", "-f", "charts/flagger/crds"); err != nil {
		t.Errorf("after the patch: %s", out)
	}
}

// keepUnknownFields changes a CRD in etcd.
func (m *meshCluster) keepUnknownFields(crd string) {
	m.Helper()
	key := []byte("/registry/apiextensions.k8s.io/customresourcedefinitions/" + crd)
	var found struct{ Kvs []struct{ Value []byte } }
	m.etcd("range", map[string]any{"key": key}, &found)
	if len(found.Kvs) != 1 {
		m.Fatalf("etcd has %d objects at %s", len(found.Kvs), key)
	}
	var stored map[string]any
	if err := json.Unmarshal(found.Kvs[0].Value, &stored); err != nil {
		m.Fatal(err)
	}
	stored["spec"].(map[string]any)["preserveUnknownFields"] = true
	raw, err := json.Marshal(stored)
	if err != nil {
		m.Fatal(err)
	}
	m.etcd("put", map[string]any{"key": key, "value": raw}, &struct{}{})
}

// etcd asks the etcd of the cluster, by its gateway for JSON.
func (m *meshCluster) etcd(what string, ask, answer any) {
	m.Helper()
	raw, err := json.Marshal(ask)
	if err != nil {
		m.Fatal(err)
	}
	request, err := http.NewRequestWithContext(m.Context(), http.MethodPost, m.etcdURL+"/v3/kv/"+what, bytes.NewReader(raw))
	if err != nil {
		m.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		m.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		m.Fatal(err)
	}
}
