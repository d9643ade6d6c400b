package workload

import (
	"strings"
)

const (
	// promotedRevisionAnnotation on a primary holds the fingerprint of the target revision that it was made from, and
	// primaryTemplateAnnotation the fingerprint that its own template had after that, without the marks of tools (fingerprint.Copy). A
	// primary whose template has another fingerprint by now was changed by somebody else, and the first annotation says nothing.
	promotedRevisionAnnotation = "flagger.app/promoted-revision"
	primaryTemplateAnnotation  = "flagger.app/primary-template"
	// replacedLabelAnnotation on a primary that was made anew with another selector names the label of the former one.
	replacedLabelAnnotation = "flagger.app/replaced-label"
	// idAnnotation on the pods of a primary starts them anew when it changes.
	idAnnotation = "flagger-id"

	lastAppliedAnnotation = "kubectl.kubernetes.io/last-applied-configuration"
	toolkitKey            = "toolkit.fluxcd.io"
)

// copiesKey is whether a label or annotation of a target is meant for its copies. Those of the toolkit would make it
// prune the copy; the other ones describe the very object that they are on.
func copiesKey(key string) bool {
	switch key {
	case lastAppliedAnnotation, counterAnnotation, generationAnnotation, promotedRevisionAnnotation, primaryTemplateAnnotation,
		promotedConfigsAnnotation, replacedLabelAnnotation:
		return false
	}
	return copiesPodKey(key)
}

// copiesPodKey is the same for the labels and annotations of pods.
func copiesPodKey(key string) bool { return !strings.Contains(key, toolkitKey) }

// includesLabel is whether -include-label-prefix allows a key.
func includesLabel(key string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if prefix == "*" || (prefix != "" && strings.HasPrefix(key, prefix)) {
			return true
		}
	}
	return false
}

// primaryLabels are the labels that the primary object should have. Of the present ones those survive that no prefix
// allows: a prefix mirrors the target, everything else on the object may be somebody else's.
func primaryLabels(present, target map[string]string, s Selector, prefixes []string) map[string]string {
	labels := mirroredLabels(present, target, prefixes)
	labels[s.Label] = s.PrimaryValue()
	return labels
}

// mirroredLabels are the same without a selector.
func mirroredLabels(present, target map[string]string, prefixes []string) map[string]string {
	labels := map[string]string{}
	for key, value := range present {
		if !includesLabel(key, prefixes) {
			labels[key] = value
		}
	}
	for key, value := range target {
		if includesLabel(key, prefixes) && copiesPodKey(key) {
			labels[key] = value
		}
	}
	return labels
}

// primaryAnnotations are the annotations that the primary object should have: those of the target that make sense on a
// copy, at creation and at each promotion, and the present ones that somebody else put there.
func primaryAnnotations(present, target map[string]string, prefixes []string) map[string]string {
	annotations := map[string]string{}
	for key, value := range present {
		if !includesLabel(key, prefixes) || !copiesKey(key) {
			annotations[key] = value
		}
	}
	for key, value := range target {
		if copiesKey(key) {
			annotations[key] = value
		}
	}
	return annotations
}
