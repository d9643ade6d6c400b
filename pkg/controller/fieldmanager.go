package controller

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// writerOf names the field manager that last wrote one of the fields, or the object if none has a say over them any more: a
// field that is gone has no manager. It is empty if the object does not say.
func writerOf(u *unstructured.Unstructured, fields [][]string) string {
	value, _, _ := unstructured.NestedFieldNoCopy(u.Object, "metadata", "managedFields")
	entries, _ := value.([]any)
	var owner, last record
	for _, item := range entries {
		entry, ok := item.(map[string]any)
		if !ok || entry["subresource"] != nil && entry["subresource"] != "" {
			continue
		}
		r := recordOf(entry)
		last = last.newer(r)
		if owned, _ := entry["fieldsV1"].(map[string]any); coversAny(owned, fields) {
			owner = owner.newer(r)
		}
	}
	if owner.manager != "" {
		return owner.manager
	}
	return last.manager
}

// record is who wrote and when, as RFC 3339 in UTC, which sorts as text.
type record struct{ manager, time string }

func recordOf(entry map[string]any) record {
	manager, _ := entry["manager"].(string)
	at, _ := entry["time"].(string)
	return record{manager, at}
}

func (r record) newer(other record) record {
	if r.manager == "" || other.time > r.time {
		return other
	}
	return r
}

func coversAny(owned map[string]any, fields [][]string) bool {
	for _, path := range fields {
		if covers(owned, path) {
			return true
		}
	}
	return false
}

// covers is whether a set of fields, in the form of managedFields, holds a path, a part of its value, or what it is part of.
func covers(owned map[string]any, path []string) bool {
	for _, field := range path {
		next, ok := owned["f:"+field].(map[string]any)
		if !ok {
			return false
		}
		if len(next) == 0 {
			return true
		}
		owned = next
	}
	return true
}
