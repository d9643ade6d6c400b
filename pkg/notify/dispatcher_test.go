package notify

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

type store struct {
	providers map[string]v1beta1.AlertProviderSpec
	secrets   map[string]map[string][]byte
}

func (s store) AlertProvider(namespace, name string) (*v1beta1.AlertProvider, error) {
	spec, ok := s.providers[namespace+"/"+name]
	if !ok {
		return nil, fmt.Errorf("alertprovider %q not found", name)
	}
	return &v1beta1.AlertProvider{Spec: spec}, nil
}

func (s store) SecretData(_ context.Context, namespace, name string) (map[string][]byte, error) {
	data, ok := s.secrets[namespace+"/"+name]
	if !ok {
		return nil, fmt.Errorf("secret %q not found", name)
	}
	return data, nil
}

func (s store) dispatcher(global ...Receiver) *Dispatcher {
	return &Dispatcher{Global: global, Providers: s, Secrets: s, Sender: sender()}
}

func wants(name string, severity v1beta1.AlertSeverity) v1beta1.CanaryAlert {
	return v1beta1.CanaryAlert{Name: name, Severity: severity, ProviderRef: v1beta1.CrossNamespaceObjectReference{Name: name}}
}

// info gets everything, and so does what says nothing; warn gets warn and error; error gets error.
func TestWhoGetsWhat(t *testing.T) {
	severities := []v1beta1.AlertSeverity{v1beta1.SeverityInfo, v1beta1.SeverityWarn, v1beta1.SeverityError}
	for wanted, counts := range map[v1beta1.AlertSeverity][3]int{"": {1, 1, 1}, "info": {1, 1, 1}, "warn": {0, 1, 1}, "error": {0, 0, 1}} {
		for i, severity := range severities {
			own, global := newRoom(t, says(200, "")), newRoom(t, says(200, ""))
			s := store{providers: map[string]v1beta1.AlertProviderSpec{"test/chat": {Type: "slack", Address: own.URL}}}
			a := sample(severity)
			a.Wanted = []v1beta1.CanaryAlert{wants("chat", wanted)}
			if err := s.dispatcher(Receiver{Type: "slack", Address: global.URL}).Notify(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if len(own.got()) != counts[i] || len(global.got()) != 0 {
				t.Errorf("%s wanted, %s: %d sent to the provider, %d to the global receiver", wanted, severity, len(own.got()), len(global.got()))
			}
		}
	}
}

// All receivers of the operator get what nobody in particular wants, whatever becomes of the others.
func TestGlobalReceivers(t *testing.T) {
	slack, teams := newRoom(t, says(500, "down")), newRoom(t, says(202, "accepted"))
	err := store{}.dispatcher(Receiver{Type: "slack", Address: slack.URL}, Receiver{Type: "msteams", Address: teams.URL}).
		Notify(t.Context(), sample(v1beta1.SeverityInfo))
	if err == nil || !strings.Contains(err.Error(), "500") || len(teams.got()) != 1 {
		t.Errorf("got %v, %d in the second room", err, len(teams.got()))
	}
}

func TestWithoutReceiversAlertsAreLogged(t *testing.T) {
	var lines []string
	d := store{}.dispatcher()
	d.Log = Log{Logger: funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})}
	if err := d.Notify(t.Context(), sample(v1beta1.SeverityInfo)); err != nil || len(lines) != 1 {
		t.Errorf("got %v, %v", lines, err)
	}
}

func TestSecretOfAProvider(t *testing.T) {
	room := newRoom(t, says(200, ""))
	secret := func(name string) *corev1.LocalObjectReference { return &corev1.LocalObjectReference{Name: name} }
	s := store{
		providers: map[string]v1beta1.AlertProviderSpec{
			"test/secret":  {Type: "slack", SecretRef: secret("full")},
			"test/both":    {Type: "slack", Address: "http://127.0.0.1:1", SecretRef: secret("full")},
			"test/token":   {Type: "slack", Address: room.URL, SecretRef: secret("token")},
			"test/empty":   {Type: "slack", SecretRef: secret("token")},
			"test/missing": {Type: "slack", SecretRef: secret("none")},
		},
		secrets: map[string]map[string][]byte{
			"test/full":  {"address": []byte(room.URL + "\n"), "token": []byte("t\n")},
			"test/token": {"token": []byte("t")},
		},
	}
	for name, want := range map[string]string{
		"secret": "", "both": "", "token": "", "empty": "has no key address", "missing": `secret none: secret "none" not found`, "unknown": "not found",
	} {
		a := sample(v1beta1.SeverityInfo)
		a.Wanted = []v1beta1.CanaryAlert{wants(name, "")}
		before := len(room.got())
		err := s.dispatcher().Notify(t.Context(), a)
		switch posts := room.got(); {
		case want == "" && (err != nil || len(posts) != before+1 || posts[before].header.Get("Authorization") != "Bearer t"):
			t.Errorf("%s: %v, %d posts", name, err, len(posts)-before)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name+".test")):
			t.Errorf("%s: got %v, want %q and the provider", name, err, want)
		}
	}
}

func TestCrossNamespaceProvidersCanBeRefused(t *testing.T) {
	room := newRoom(t, says(200, ""))
	d := store{providers: map[string]v1beta1.AlertProviderSpec{"ops/chat": {Type: "slack", Address: room.URL}}}.dispatcher()
	a := sample(v1beta1.SeverityInfo)
	a.Wanted = []v1beta1.CanaryAlert{{Name: "x", ProviderRef: v1beta1.CrossNamespaceObjectReference{Name: "chat", Namespace: "ops"}}}
	if err := d.Notify(t.Context(), a); err != nil || len(room.got()) != 1 {
		t.Errorf("allowed: %v", err)
	}
	d.NoCrossNamespaceRefs = true
	err := d.Notify(t.Context(), a)
	if err == nil || err.Error() != "can't access alert provider chat.ops, cross-namespace references are blocked" || len(room.got()) != 1 {
		t.Errorf("refused: %v", err)
	}
}
