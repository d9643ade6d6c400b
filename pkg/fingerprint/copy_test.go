package fingerprint

import (
	"slices"
	"testing"
)

// pods is a pod template with labels, annotations and variables of its one container, and of an init container that has none.
func pods(labels, annotations map[string]any, variables ...string) map[string]any {
	var env []any
	for _, name := range variables {
		env = append(env, map[string]any{"name": name, "value": "1"})
	}
	container := map[string]any{"name": "app", "image": "app:1"}
	if env != nil {
		container["env"] = env
	}
	template := map[string]any{"spec": map[string]any{
		"containers": []any{container}, "initContainers": []any{map[string]any{"name": "init", "image": "init:1"}},
	}}
	metadata := map[string]any{}
	if labels != nil {
		metadata["labels"] = labels
	}
	if annotations != nil {
		metadata["annotations"] = annotations
	}
	template["metadata"] = metadata
	return template
}

func workload(template map[string]any) map[string]any {
	return map[string]any{"spec": map[string]any{"template": template}}
}

func image(template map[string]any, image string) map[string]any {
	template["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)["image"] = image
	return template
}

// A record holds for whatever tools do to start pods anew, and for nothing else.
func TestCopyLeavesMarksOut(t *testing.T) {
	plain, err := Copy(workload(pods(map[string]any{"app": "x"}, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		template map[string]any
		same     bool
	}{
		"restarted":            {pods(map[string]any{"app": "x"}, map[string]any{"kubectl.kubernetes.io/restartedAt": "2026-01-02T03:04:05Z"}), true},
		"Reloader, annotation": {pods(map[string]any{"app": "x"}, map[string]any{"reloader.stakater.com/last-reloaded-from": "{}"}), true},
		"Reloader, variable":   {pods(map[string]any{"app": "x"}, nil, "STAKATER_SETTINGS_CONFIGMAP"), true},
		"Wave":                 {pods(map[string]any{"app": "x"}, map[string]any{"wave.pusher.com/config-hash": "1"}), true},
		"a variable":           {pods(map[string]any{"app": "x"}, nil, "STAKATER_SETTINGS_CONFIGMAP", "MODE"), false},
		"an annotation":        {pods(map[string]any{"app": "x"}, map[string]any{"prometheus.io/scrape": "true"}), false},
		"an image":             {image(pods(map[string]any{"app": "x"}, nil), "app:2"), false},
	} {
		forms, err := Copy(workload(test.template))
		if err != nil {
			t.Fatal(err)
		}
		if same := forms[0] == plain[0]; same != test.same {
			t.Errorf("%s: is the recorded template: %t", name, same)
		}
	}
	if _, err := Copy(map[string]any{}); err == nil {
		t.Error("an object without a template has a record")
	}
}

// Records of earlier versions left out a restart alone, or nothing.
func TestCopyKnowsEarlierForms(t *testing.T) {
	marked := workload(pods(nil, map[string]any{"wave.pusher.com/config-hash": "1", "kubectl.kubernetes.io/restartedAt": "2026-01-02T03:04:05Z"}))
	forms, err := Copy(marked)
	if err != nil {
		t.Fatal(err)
	}
	for _, earlier := range []map[string]any{
		marked, workload(pods(nil, map[string]any{"wave.pusher.com/config-hash": "1"})),
	} {
		hash, err := Template(earlier)
		if err != nil || !slices.Contains(forms, hash) {
			t.Errorf("%v: no form of %v is that of %v", err, forms, earlier)
		}
	}
}

func TestIsCopy(t *testing.T) {
	at := func(when string) map[string]any { return map[string]any{"kubectl.kubernetes.io/restartedAt": when} }
	const early, late = "2026-01-02T03:04:05Z", "2026-01-02T04:04:05Z"
	for name, test := range map[string]struct {
		primary, wanted map[string]any
		want            bool
	}{
		"the same":                        {pods(nil, nil), pods(nil, nil), true},
		"another image":                   {image(pods(nil, nil), "app:2"), pods(nil, nil), false},
		"marks and more on the primary":   {pods(map[string]any{"team": "a"}, at(late), "STAKATER_A_SECRET"), pods(nil, nil), true},
		"a label of the target":           {pods(nil, nil), pods(map[string]any{"team": "a"}, nil), false},
		"another value":                   {pods(map[string]any{"team": "b"}, nil), pods(map[string]any{"team": "a"}, nil), false},
		"the target was restarted":        {pods(nil, nil), pods(nil, at(late)), false},
		"the target was restarted later":  {pods(nil, at(early)), pods(nil, at(late)), false},
		"the primary was restarted later": {pods(nil, at(late)), pods(nil, at(early)), true},
		"a restart that is no time":       {pods(nil, at("now")), pods(nil, at(late)), true},
		"the target's restart is no time": {pods(nil, at(early)), pods(nil, at("now")), false},
		"the target was reloaded":         {pods(nil, nil), pods(nil, nil, "STAKATER_A_CONFIGMAP"), false},
		"both were reloaded":              {pods(nil, nil, "STAKATER_A_CONFIGMAP"), pods(nil, nil, "STAKATER_A_CONFIGMAP"), true},
		"a variable that only one has":    {pods(nil, nil, "MODE"), pods(nil, nil), false},
		"an annotation that both have":    {pods(nil, map[string]any{"a": "1"}), pods(nil, map[string]any{"a": "1"}), true},
	} {
		if got := IsCopy(test.primary, test.wanted); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
