package fingerprint

import (
	"fmt"
	"maps"
	"strings"
	"time"
)

// A primary is a copy of its target, and tools act on it as on any other workload: they restart its pods, or start them anew when a
// config changes, by a mark in the pod template. A mark changes nothing of what the pods run. This file is the one rule for
// whether the template of a primary is still what it was made as; records and comparisons both go by it.

// restartMark is what kubectl rollout restart and its like set, to the time of the restart.
const restartMark = "kubectl.kubernetes.io/restartedAt"

// isMark is whether an annotation of pods is there to start them anew.
func isMark(annotation string) bool {
	switch annotation {
	case restartMark,
		"cattle.io/timestamp",                      // Redeploy of Rancher.
		"keel.sh/update-time",                      // Keel, beside the image that it changes.
		"reloader.stakater.com/last-reloaded-from", // Reloader.
		"wave.pusher.com/config-hash":              // Wave.
		return true
	}
	return false
}

// isMarkVariable is whether a variable is one by which Reloader starts pods anew, as it does unless it is told to annotate them.
func isMarkVariable(name string) bool {
	ours := strings.HasPrefix(name, "STAKATER_")
	return ours && (strings.HasSuffix(name, "_CONFIGMAP") || strings.HasSuffix(name, "_SECRET") || strings.HasSuffix(name, "_SECRETPROVIDERCLASS"))
}

// Copy is the fingerprint of the template of a primary, raw, without the marks of tools: what is recorded when it is written. A
// record may also have a form that earlier versions of this program wrote, which follow.
func Copy(raw map[string]any) (forms []string, err error) {
	whole, err := Template(raw)
	if err != nil {
		return nil, err
	}
	template, _ := raw["spec"].(map[string]any)["template"].(map[string]any)
	for _, left := range []map[string]any{
		unmarked(template),
		withoutAnnotations(template, func(key string) bool { return key == restartMark }),
	} {
		hash, err := Template(map[string]any{"spec": map[string]any{"template": left}})
		if err != nil {
			return nil, fmt.Errorf("without marks: %w", err)
		}
		forms = append(forms, hash)
	}
	return append(forms, whole), nil
}

// IsCopy is whether the template of a primary, of which there is no record, is what would be made of its target: wanted. Marks, and
// whatever else was added to its labels and annotations, are no difference. A mark that the target has and the primary has not,
// or a later restart of the target, is one: somebody has asked for new pods.
func IsCopy(primary, wanted map[string]any) bool {
	if !hasMarks(primary, wanted) {
		return false
	}
	present, expected := unmarked(primary), unmarked(wanted)
	for _, field := range []string{"labels", "annotations"} {
		known := mapIn(expected, "metadata", field)
		present = without(present, field, func(key string) bool { _, ok := known[key]; return !ok })
		expected = without(expected, field, func(string) bool { return false })
	}
	a, err := Value(present)
	if err != nil {
		return false
	}
	b, err := Value(expected)
	return err == nil && a == b
}

// hasMarks is whether a primary has the marks that are wanted, whatever their value but for a restart.
func hasMarks(primary, wanted map[string]any) bool {
	have := mapIn(primary, "metadata", "annotations")
	for key, value := range mapIn(wanted, "metadata", "annotations") {
		present, ok := have[key]
		if isMark(key) && (!ok || key == restartMark && earlier(present, value)) {
			return false
		}
	}
	variables := marksIn(primary)
	for name := range marksIn(wanted) {
		if !variables[name] {
			return false
		}
	}
	return true
}

// earlier is whether a restart was before another one. What is no time is none that anybody could tell to be earlier.
func earlier(a, b any) bool {
	first, _ := a.(string)
	second, _ := b.(string)
	t, err := time.Parse(time.RFC3339, first)
	if err != nil {
		return false
	}
	u, err := time.Parse(time.RFC3339, second)
	return err != nil || t.Before(u)
}

// marksIn are the variables of Reloader in a template, by container.
func marksIn(template map[string]any) map[[2]string]bool {
	found := map[[2]string]bool{}
	eachContainer(template, func(container map[string]any) {
		name, _ := container["name"].(string)
		for _, item := range listIn(container, "env") {
			variable, _ := item.(map[string]any)
			if key, _ := variable["name"].(string); isMarkVariable(key) {
				found[[2]string{name, key}] = true
			}
		}
	})
	return found
}

func eachContainer(template map[string]any, do func(map[string]any)) {
	for _, list := range []string{"containers", "initContainers"} {
		for _, item := range listIn(mapIn(template, "spec"), list) {
			if container, ok := item.(map[string]any); ok {
				do(container)
			}
		}
	}
}

// unmarked copies what it changes of a template.
func unmarked(template map[string]any) map[string]any {
	template = withoutAnnotations(template, isMark)
	if len(marksIn(template)) == 0 {
		return template
	}
	podSpec := maps.Clone(mapIn(template, "spec"))
	for _, list := range []string{"containers", "initContainers"} {
		containers := listIn(podSpec, list)
		if len(containers) == 0 {
			continue
		}
		changed := make([]any, len(containers))
		for i, item := range containers {
			changed[i] = withoutMarkVariables(item)
		}
		podSpec[list] = changed
	}
	template = maps.Clone(template)
	template["spec"] = podSpec
	return template
}

func withoutMarkVariables(item any) any {
	container, ok := item.(map[string]any)
	if !ok || container["env"] == nil {
		return item
	}
	var kept []any
	for _, item := range listIn(container, "env") {
		variable, _ := item.(map[string]any)
		if name, _ := variable["name"].(string); !isMarkVariable(name) {
			kept = append(kept, item)
		}
	}
	container = maps.Clone(container)
	container["env"] = kept
	if len(kept) == 0 {
		delete(container, "env")
	}
	return container
}

func withoutAnnotations(template map[string]any, drop func(key string) bool) map[string]any {
	for key := range mapIn(template, "metadata", "annotations") {
		if drop(key) {
			return without(template, "annotations", drop)
		}
	}
	return template
}

// without copies a template with some of its labels or annotations left out, and the field if none is left.
func without(template map[string]any, field string, drop func(key string) bool) map[string]any {
	kept := maps.Clone(mapIn(template, "metadata", field))
	maps.DeleteFunc(kept, func(key string, _ any) bool { return drop(key) })
	metadata := maps.Clone(mapIn(template, "metadata"))
	if metadata == nil {
		metadata = map[string]any{}
	}
	metadata[field] = kept
	if len(kept) == 0 {
		delete(metadata, field)
	}
	template = maps.Clone(template)
	template["metadata"] = metadata
	return template
}

func mapIn(value map[string]any, path ...string) map[string]any {
	for _, name := range path {
		value, _ = value[name].(map[string]any)
	}
	return value
}

func listIn(value map[string]any, name string) []any {
	list, _ := value[name].([]any)
	return list
}
