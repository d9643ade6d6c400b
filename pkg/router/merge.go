package router

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// share is the part of an object that is ours: the owned fields and the wanted labels and annotations.
type share map[string]any

// shareOf cuts the owned paths, and the labels and annotations named by keys, out of an object. Parents of a path are
// there even when it is not, so that a patch between two shares never removes more than the path.
func shareOf(o map[string]any, owned [][]string, keys metadataKeys) share {
	part := share{}
	for _, path := range owned {
		if len(path) > 1 {
			ensurePath(part, path[:len(path)-1])
		}
		if value, ok, err := unstructured.NestedFieldNoCopy(o, path...); err == nil && ok && value != nil {
			setPath(part, path, value)
		}
	}
	for field, names := range keys {
		ensurePath(part, []string{"metadata", field})
		live, _, err := unstructured.NestedStringMap(o, "metadata", field)
		if err != nil {
			continue
		}
		for name := range names {
			if value, ok := live[name]; ok {
				setPath(part, []string{"metadata", field, name}, value)
			}
		}
	}
	return part
}

// metadataKeys maps "labels" and "annotations" to the keys that are ours.
type metadataKeys map[string]map[string]bool

func (k metadataKeys) add(field string, names map[string]string) {
	if k[field] == nil {
		k[field] = map[string]bool{}
	}
	for name := range names {
		k[field][name] = true
	}
}

// ensurePath makes a map at every step of a path and returns the last.
func ensurePath(o map[string]any, path []string) map[string]any {
	for _, field := range path {
		next, ok := o[field].(map[string]any)
		if !ok {
			next = map[string]any{}
			o[field] = next
		}
		o = next
	}
	return o
}

// setPath puts a value into nested maps. Unlike unstructured.SetNestedField it doesn't copy the value.
func setPath(o map[string]any, path []string, value any) {
	ensurePath(o, path[:len(path)-1])[path[len(path)-1]] = value
}

// leaves lists the paths of all values in nested maps that are no maps, or empty ones.
func leaves(o map[string]any, parent []string) [][]string {
	var paths [][]string
	for field, value := range o {
		path := append(slices.Clone(parent), field)
		if deeper, ok := value.(map[string]any); ok && len(deeper) > 0 {
			paths = append(paths, leaves(deeper, path)...)
			continue
		}
		paths = append(paths, path)
	}
	return paths
}

// equalJSON compares by the JSON form, in which 10 and 10.0 are the same number.
func equalJSON(a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// digest identifies a share by its canonical JSON (encoding/json sorts the keys of maps).
func digest(part share) [sha256.Size]byte {
	raw, err := json.Marshal(part)
	if err != nil {
		// Unstructured content is made of JSON values, which always marshal.
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(raw)
}

// mergePatch returns the JSON merge patch (RFC 7386) that turns live into wanted, empty when they are equal.
func mergePatch(live, wanted map[string]any) map[string]any {
	patch := map[string]any{}
	for field := range live {
		if value, ok := wanted[field]; !ok || value == nil {
			patch[field] = nil
		}
	}
	for field, value := range wanted {
		if value == nil {
			continue
		}
		old, exists := live[field]
		oldMap, oldIsMap := old.(map[string]any)
		newMap, newIsMap := value.(map[string]any)
		switch {
		case exists && equalJSON(old, value):
		case oldIsMap && newIsMap:
			patch[field] = mergePatch(oldMap, newMap)
		default:
			patch[field] = value
		}
	}
	return patch
}
