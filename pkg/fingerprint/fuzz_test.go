package fingerprint

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	kjson "k8s.io/apimachinery/pkg/util/json"
)

// FuzzTemplate checks, for any template, that the order of members never matters and a change of any leaf always does.
func FuzzTemplate(f *testing.F) {
	f.Add([]byte(`{"metadata":{"labels":{"app":"a","b":"c"}},"spec":{"containers":[{"name":"x","args":["1","2"]}]}}`), uint64(1))
	f.Add([]byte(`{"a":{"b":null,"c":[]},"d":1.5,"e":true,"f":-0,"g":"<&>\u0000"}`), uint64(2))
	f.Add([]byte(`{"spec":{"nodeSelector":{"flagger.app/scale-to-zero":"true","x":"y"}}}`), uint64(3))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		var template map[string]any
		if err := kjson.Unmarshal(text, &template); err != nil || template == nil {
			t.Skip()
		}
		random := rand.New(rand.NewPCG(seed, 0))
		want := fingerprintOf(t, template)

		var again map[string]any
		shuffled := shuffle(random, template)
		if err := kjson.Unmarshal([]byte(shuffled), &again); err != nil {
			t.Fatalf("%s: %v", shuffled, err)
		}
		if got := fingerprintOf(t, again); got != want {
			t.Fatalf("the order of members matters: %s", shuffled)
		}
		for i := range changeable(template) {
			changed := kjsonCopy(t, template)
			changeable(changed)[i]()
			if fingerprintOf(t, changed) == want {
				t.Fatalf("change %d of %s makes no difference", i, text)
			}
		}
	})
}

func fingerprintOf(t *testing.T, template map[string]any) string {
	t.Helper()
	hash, err := Template(map[string]any{"spec": map[string]any{"template": template}})
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func kjsonCopy(t *testing.T, template map[string]any) map[string]any {
	t.Helper()
	text, err := json.Marshal(template)
	if err != nil {
		t.Skip()
	}
	var out map[string]any
	if err := kjson.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// shuffle writes the value as JSON with the members of all objects in random order.
func shuffle(random *rand.Rand, value any) string {
	switch v := value.(type) {
	case map[string]any:
		var members []string
		for name, member := range v {
			key, _ := json.Marshal(name)
			members = append(members, string(key)+":"+shuffle(random, member))
		}
		random.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		return "{" + join(members) + "}"
	case []any:
		var items []string
		for _, item := range v {
			items = append(items, shuffle(random, item))
		}
		return "[" + join(items) + "]"
	default:
		text, _ := json.Marshal(v)
		return string(text)
	}
}

func join(parts []string) string {
	out := ""
	for i, p := range parts {
		if i > 0 {
			out += ","
		}
		out += p
	}
	return out
}

// changeable lists, in a fixed order, a change of every leaf, and the loss of every array item.
func changeable(root map[string]any) []func() {
	var changes []func()
	var walk func(value any, path string, set func(any))
	walk = func(value any, path string, set func(any)) {
		switch v := value.(type) {
		case map[string]any:
			names := make([]string, 0, len(v))
			for name := range v {
				names = append(names, name)
			}
			slices.Sort(names)
			for _, name := range names {
				if path == "/spec/nodeSelector" && name == scaleToZero {
					continue
				}
				walk(v[name], path+"/"+name, func(x any) { v[name] = x })
			}
		case []any:
			for i := range v {
				walk(v[i], fmt.Sprintf("%s/[%d]", path, i), func(x any) { v[i] = x })
			}
			if len(v) > 0 {
				changes = append(changes, func() { set(v[:len(v)-1]) })
			}
		default:
			changes = append(changes, func() { set(other(v)) })
		}
	}
	walk(root, "", func(any) {})
	return changes
}

func other(leaf any) any {
	switch v := leaf.(type) {
	case string:
		return v + "x"
	case bool:
		return !v
	case int64:
		return v ^ 1
	case float64:
		return fmt.Sprint(v)
	default:
		return "was null"
	}
}
