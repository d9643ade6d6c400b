package fingerprint

import (
	"encoding/json"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "k8s.io/apimachinery/pkg/util/json"
)

// The vectors were computed by another implementation of the canonical form. They may be added to, never changed: a
// fingerprint in a status outlives the operator that wrote it.
func TestTemplateVectors(t *testing.T) {
	var golden struct {
		Templates []struct {
			Name        string          `json:"name"`
			Template    json.RawMessage `json:"template"`
			Fingerprint string          `json:"fingerprint"`
		} `json:"templates"`
	}
	data, err := os.ReadFile("testdata/v2.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Templates) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range golden.Templates {
		t.Run(v.Name, func(t *testing.T) {
			object := unstructured.Unstructured{}
			text := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"},"spec":{"replicas":3,"template":` + string(v.Template) + `}}`
			if err := object.UnmarshalJSON([]byte(text)); err != nil {
				t.Fatal(err)
			}
			before := object.DeepCopy()
			got, err := Template(object.Object)
			if err != nil {
				t.Fatal(err)
			}
			if got != v.Fingerprint {
				t.Errorf("fingerprint %s, want %s", got, v.Fingerprint)
			}
			if diff := cmp.Diff(before, &object); diff != "" {
				t.Errorf("the object was changed: %s", diff)
			}
		})
	}
}

// Decoders differ in the types of numbers. The fingerprint must not depend on the decoder.
func TestTemplateIgnoresDecoder(t *testing.T) {
	const text = `{"spec":{"template":{"a":[1,-7,1.5,1.0,1e3,9007199254740993],"b":{"c":true}}}}`
	var plain, numbers, kubernetes map[string]any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(text, "9007199254740993", "2")), &plain); err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&numbers); err != nil {
		t.Fatal(err)
	}
	if err := kjson.Unmarshal([]byte(text), &kubernetes); err != nil {
		t.Fatal(err)
	}
	a, b := mustTemplate(t, numbers), mustTemplate(t, kubernetes)
	if a != b {
		t.Errorf("json.Number gives %s, unstructured %s", a, b)
	}
	// encoding/json without UseNumber has rounded the last number already, so it is left out here.
	for _, object := range []map[string]any{numbers, kubernetes} {
		list := object["spec"].(map[string]any)["template"].(map[string]any)["a"].([]any)
		list[5] = int64(2)
	}
	if a, b := mustTemplate(t, numbers), mustTemplate(t, plain); a != b {
		t.Errorf("json.Number gives %s, float64 %s", a, b)
	}
}

func mustTemplate(t *testing.T, object map[string]any) string {
	t.Helper()
	hash, err := Template(object)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func TestTemplateRefuses(t *testing.T) {
	in := func(leaf any) map[string]any {
		return map[string]any{"spec": map[string]any{"template": map[string]any{"list": []any{leaf}}}}
	}
	for name, tc := range map[string]struct {
		object map[string]any
		want   string
	}{
		"no spec":      {map[string]any{}, "no spec"},
		"no template":  {map[string]any{"spec": map[string]any{}}, "no spec.template"},
		"foreign type": {in(struct{}{}), "spec.template: list: [0]: type struct {}"},
		"NaN":          {in(math.NaN()), "does not occur in JSON"},
		"infinity":     {in(math.Inf(1)), "does not occur in JSON"},
		"bad number":   {in(json.Number("1e999")), `number "1e999"`},
	} {
		t.Run(name, func(t *testing.T) {
			hash, err := Template(tc.object)
			if err == nil || !strings.Contains(err.Error(), tc.want) || hash != "" {
				t.Errorf("got %q, %v; want an error with %q", hash, err, tc.want)
			}
		})
	}
}

func TestTemplateOfPlainGoNumbers(t *testing.T) {
	of := func(leaf any) string {
		return mustTemplate(t, map[string]any{"spec": map[string]any{"template": map[string]any{"n": leaf}}})
	}
	for _, same := range []any{int32(30), 30, float64(30), json.Number("30"), json.Number("3e1")} {
		if got := of(same); got != of(int64(30)) {
			t.Errorf("%T(%v) differs from int64(30)", same, same)
		}
	}
}

func TestIsOurs(t *testing.T) {
	if !IsOurs("v2:00") || IsOurs("69f856df46") || IsOurs("") {
		t.Error("the prefix decides whose hash it is")
	}
}

// Vectors of section 11.1 of the contract.
func TestFlaggerData(t *testing.T) {
	for _, tc := range []struct{ name, got, want string }{
		{"data", FlaggerData(map[string]string{"color": "red"}), "241889ca0604e333"},
		{"nil", FlaggerData[string](nil), "74234e98afe7498f"},
		{"empty", FlaggerData(map[string]string{}), "44136fa355b3678a"},
		{"secret", FlaggerData(map[string][]byte{"apiKey": []byte("test")}), "3930f0692c2295eb"},
		{"escaped", FlaggerData(map[string]string{"a": "<&>"}), "1fd2922c86d4c57a"},
		{"Data without binaryData", Data(map[string]string{"color": "red"}, nil), "241889ca0604e333"},
		{"Data of a Secret", Data(map[string][]byte{"apiKey": []byte("test")}, nil), "3930f0692c2295eb"},
		{"Data without anything", Data(map[string]string{}, map[string][]byte{}), "74234e98afe7498f"},
		{"Data with binaryData", Data(map[string]string{"color": "red"}, map[string][]byte{"f": {0, 255}}), "7de5dfa2ea54f129"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, tc.got, tc.want)
		}
	}
}

func TestA12BinaryDataCounts(t *testing.T) {
	data := map[string]string{"a": "1"}
	seen := map[string]string{}
	for name, sum := range map[string]string{
		"none":           Data(data, nil),
		"one":            Data(data, map[string][]byte{"b": {1}}),
		"other":          Data(data, map[string][]byte{"b": {2}}),
		"other name":     Data(data, map[string][]byte{"c": {2}}),
		"only binary":    Data[string](nil, map[string][]byte{"b": {1}}),
		"moved to data":  Data(map[string]string{"a": "1", "b": "\x01"}, nil),
		"data different": Data(map[string]string{"a": "2"}, map[string][]byte{"b": {1}}),
	} {
		if other, ok := seen[sum]; ok {
			t.Errorf("%s and %s have the same checksum", name, other)
		}
		seen[sum] = name
	}
}

func TestB04WebhookChecksumIsOfTheRevision(t *testing.T) {
	configs := map[string]string{"configmap/a": "0123456789abcdef", "secret/b": "fedcba9876543210"}
	checksum := func(template string, configs map[string]string) string {
		return WebhookChecksum(Revision(template, configs))
	}
	base := checksum("v2:aa", configs)
	if base != "3ebd2be4da" || !regexp.MustCompile(`^[0-9a-f]{10}$`).MatchString(base) {
		t.Errorf("checksum %q", base)
	}
	if checksum("v2:aa", nil) != checksum("v2:aa", map[string]string{}) {
		t.Error("nil and empty configs differ")
	}
	for name, other := range map[string]string{
		"template":        checksum("v2:ab", configs),
		"no configs":      checksum("v2:aa", nil),
		"config changed":  checksum("v2:aa", map[string]string{"configmap/a": "1", "secret/b": "fedcba9876543210"}),
		"config renamed":  checksum("v2:aa", map[string]string{"configmap/c": "0123456789abcdef", "secret/b": "fedcba9876543210"}),
		"injected quotes": checksum("v2:aa", map[string]string{`configmap/a":"0123456789abcdef","secret/b`: "fedcba9876543210"}),
	} {
		if other == base {
			t.Errorf("%s: the checksum is the same", name)
		}
	}
	for revision, want := range map[string]string{"v2:0123456789abcdef": "0123456789", "5d5f4b8c7": "5d5f4b8c7", "": ""} {
		if got := WebhookChecksum(revision); got != want {
			t.Errorf("checksum of %q: %q, want %q", revision, got, want)
		}
	}
	revision := Revision("v2:aa", configs)
	if !IsOurs(revision) || !strings.HasPrefix(revision, Prefix+base) {
		t.Errorf("revision %s does not begin with %s%s", revision, Prefix, base)
	}
}
