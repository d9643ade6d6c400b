package fingerprint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Prefix begins every fingerprint of the present form. A hash without it was written by Flagger.
const Prefix = "v2:"

// scaleToZero is the node selector that takes the pods of a DaemonSet away. The operator sets and removes it, so it is no
// part of a revision.
const scaleToZero = "flagger.app/scale-to-zero"

// IsOurs tells fingerprints of this package from the hashes that Flagger wrote.
func IsOurs(hash string) bool {
	return strings.HasPrefix(hash, Prefix)
}

// Template is the fingerprint of spec.template of a workload as the API server stores it: v2: and the SHA-256, in hex, of
// its canonical form. The node selector with which the operator parks a DaemonSet is left out, and so is a node selector
// that is empty without it.
func Template(raw map[string]any) (string, error) {
	spec, ok := raw["spec"].(map[string]any)
	if !ok {
		return "", errors.New("the object has no spec")
	}
	template, ok := spec["template"].(map[string]any)
	if !ok {
		return "", errors.New("the object has no spec.template")
	}
	hash, err := Value(withoutParking(template))
	if err != nil {
		return "", fmt.Errorf("spec.template: %w", err)
	}
	return hash, nil
}

// Value is the fingerprint of any decoded JSON value, for targets whose revision is not a pod template.
func Value(value any) (string, error) {
	form, err := canonical(nil, value)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(form)
	return Prefix + hex.EncodeToString(sum[:]), nil
}

// withoutParking copies what it changes; raw objects come from caches.
func withoutParking(template map[string]any) map[string]any {
	podSpec, ok := template["spec"].(map[string]any)
	if !ok {
		return template
	}
	selector, ok := podSpec["nodeSelector"].(map[string]any)
	if !ok {
		return template
	}
	selector = maps.Clone(selector)
	delete(selector, scaleToZero)
	podSpec = maps.Clone(podSpec)
	podSpec["nodeSelector"] = selector
	if len(selector) == 0 {
		delete(podSpec, "nodeSelector")
	}
	template = maps.Clone(template)
	template["spec"] = podSpec
	return template
}

// Revision is the fingerprint of a template together with the tracked configs: a map of configmap/<name> and secret/<name>
// to checksums. No configs, nil or empty, is one and the same revision.
func Revision(template string, configs map[string]string) string {
	form := []byte(`{"configs":{`)
	for i, name := range slices.Sorted(maps.Keys(configs)) {
		if i > 0 {
			form = append(form, ',')
		}
		form = append(canonicalString(form, name), ':')
		form = canonicalString(form, configs[name])
	}
	form = append(form, `},"template":`...)
	form = append(canonicalString(form, template), '}')
	sum := sha256.Sum256(form)
	return Prefix + hex.EncodeToString(sum[:])
}

// WebhookChecksum is the short form, for the field checksum of webhooks, of a fingerprint or Revision: its first 10 hexadecimal
// digits. Receivers may know checksums as no longer than that, from Flagger.
func WebhookChecksum(revision string) string {
	digits := strings.TrimPrefix(revision, Prefix)
	return digits[:min(len(digits), 10)]
}

// Data is the checksum of a ConfigMap or Secret: 16 hexadecimal digits over data and binaryData. Without binaryData it is
// the checksum of Flagger, so that a status Flagger wrote needs no change; with binaryData, which Flagger does not look at,
// see FlaggerData. Empty maps count as absent.
func Data[V string | []byte](data map[string]V, binary map[string][]byte) string {
	if len(data) == 0 {
		data = nil
	}
	if len(binary) == 0 {
		return FlaggerData(data)
	}
	return short(struct {
		BinaryData map[string][]byte `json:"binaryData"`
		Data       map[string]V      `json:"data"`
	}{binary, data})
}

// FlaggerData is the checksum that Flagger records for a ConfigMap or Secret with this data: the first 8 bytes, in hex, of
// the SHA-256 of the data as encoding/json writes it. Whoever takes over a status of Flagger accepts it as equal.
func FlaggerData[V string | []byte](data map[string]V) string {
	return short(data)
}

func short(value any) string {
	// Maps of strings and bytes always have a JSON form.
	form, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(form)
	return hex.EncodeToString(sum[:8])
}
