package services_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// D-06: a Service that leads to other pods is not taken over, by whatever name it is met, and nothing is written.
func TestD06_ForeignServiceIsLeftAlone(t *testing.T) {
	tests := map[string]struct {
		spec    string
		refused bool
	}{
		"target's pods":                     {`selector: {app: podinfo}`, false},
		"target's pods by another label":    {`selector: {tier: web}`, false},
		"target's pods by two labels":       {`selector: {app: podinfo, tier: web}`, false},
		"primary's pods":                    {`selector: {app: podinfo-primary}`, false},
		"primary's pods by two labels":      {`selector: {app: podinfo-primary, tier: web}`, false},
		"no selector":                       {`ports: [{port: 1}]`, false},
		"external name":                     {`{type: ExternalName, externalName: db.example.com, selector: {app: db}}`, false},
		"other pods":                        {`selector: {app: db}`, true},
		"other pods of the same app":        {`selector: {app: podinfo, tier: db}`, true},
		"other pods of the same app by key": {`selector: {app: podinfo, component: db}`, true},
	}
	for text, test := range tests {
		for _, name := range []string{"podinfo", "podinfo-primary", "podinfo-canary"} {
			t.Run(text+"/"+name, func(t *testing.T) {
				w := newWorld(t)
				spec := test.spec
				if !strings.HasPrefix(spec, "{") {
					spec = "{" + spec + "}"
				}
				w.put(fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: test}\nspec: %s\n", name, spec))
				err := w.tryApply()
				if !test.refused {
					if err != nil {
						t.Fatal(err)
					}
					return
				}
				var field *router.FieldError
				if !errors.As(err, &field) || field.Field != "spec.service.name" ||
					!strings.Contains(field.Message, "Service "+name+".test exists") || !strings.Contains(field.Message, "Set a name") {
					t.Errorf("error %v, want one about spec.service.name that names the Service and the remedy", err)
				}
				if writes := w.store.Writes(); len(writes) > 0 {
					t.Errorf("writes %v, want none", writes)
				}
			})
		}
	}
}

// D-06: a Service that was taken over under the present name is repaired, whatever somebody made it select since.
func TestD06_TakenOverServiceIsRepaired(t *testing.T) {
	w := newWorld(t)
	w.put(usersService)
	w.apply()
	w.edit("podinfo", []string{"spec", "selector"}, map[string]any{"app": "db"})
	w.canary.Status.Rollout = &v1beta1.RolloutStatus{Routing: []v1beta1.RoutingRef{{Service: "web"}, {Service: "podinfo"}}}
	if err := w.tryApply(); err == nil {
		t.Error("a Service that was known by a former name was taken over again")
	}
	w.canary.Status.Rollout.Routing = w.canary.Status.Rollout.Routing[1:]
	w.apply()
	if got := w.spec("podinfo")["selector"].(map[string]any)["app"]; got != "podinfo-primary" {
		t.Errorf("the Service selects %v", got)
	}
}

// D-06: the same for the copies of a Service target.
func TestD06_ForeignCopyIsLeftAlone(t *testing.T) {
	for selector, refused := range map[string]bool{"{app: db}": true, "{app: podinfo, tier: web}": false, "{}": false} {
		w := newWorld(t)
		w.canary.Spec.TargetRef = v1beta1.LocalObjectReference{APIVersion: "v1", Kind: "Service", Name: "podinfo"}
		w.put(usersService)
		w.put("apiVersion: v1\nkind: Service\nmetadata: {name: podinfo-canary, namespace: test}\nspec: {clusterIP: 10.0.0.1, selector: " + selector + "}\n")
		err := w.tryApply()
		if got := err != nil && strings.Contains(err.Error(), "Service podinfo-canary.test exists"); got != refused {
			t.Errorf("%s: error %v, want one: %t", selector, err, refused)
		}
		if writes := w.store.Writes(); refused && len(writes) > 0 {
			t.Errorf("%s: writes %v, want none", selector, writes)
		}
	}
}
