package fingerprint

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"

	"github.com/davecgh/go-spew/spew"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/rand"
)

// The hashes of Flagger decide nothing here. They are told to whoever knows no others: Flagger itself, when it is put back, and
// receivers of webhooks.
//
// Flagger hashes a dump of a Go value, so its hashes depend on the version of k8s.io/api that a program is built with. These are
// those of a Flagger with the same version; see docs/going-back.md for what another one makes of them.

// FlaggerDeployment is the hash that Flagger records for the pod template of a Deployment.
func FlaggerDeployment(raw map[string]any) (string, error) {
	return flaggerTemplate(raw, nil)
}

// FlaggerDaemonSet is the hash that Flagger records for the pod template of a DaemonSet: without the node selector that takes its
// pods away, and with an empty node selector where there is none.
func FlaggerDaemonSet(raw map[string]any) (string, error) {
	return flaggerTemplate(raw, func(template *corev1.PodTemplateSpec) {
		delete(template.Spec.NodeSelector, scaleToZero)
		if template.Spec.NodeSelector == nil {
			template.Spec.NodeSelector = map[string]string{}
		}
	})
}

// FlaggerService is the hash that Flagger records for the spec of a Service of Kubernetes.
func FlaggerService(raw map[string]any) (string, error) {
	var spec corev1.ServiceSpec
	if err := decode(raw["spec"], &spec); err != nil {
		return "", fmt.Errorf("spec: %w", err)
	}
	return flaggerHash(spec), nil
}

// FlaggerName is the hash that Flagger records for a revision of Knative, which its name identifies.
func FlaggerName(revision string) string { return flaggerHash(revision) }

// FlaggerChecksum is what Flagger sends to webhooks as the checksum of a status with these values.
func FlaggerChecksum(trackedConfigs *map[string]string, lastAppliedSpec string) string {
	return flaggerHash(struct {
		TrackedConfigs  *map[string]string
		LastAppliedSpec string
	}{trackedConfigs, lastAppliedSpec})
}

// FlaggerConfigs are the checksums of configs as a status has them in trackedConfigs, nil where configs are not tracked.
func FlaggerConfigs(configs map[string]string) *map[string]string {
	if configs == nil {
		return nil
	}
	clone := maps.Clone(configs)
	return &clone
}

func flaggerTemplate(raw map[string]any, change func(*corev1.PodTemplateSpec)) (string, error) {
	spec, _ := raw["spec"].(map[string]any)
	var template corev1.PodTemplateSpec
	if err := decode(spec["template"], &template); err != nil {
		return "", fmt.Errorf("spec.template: %w", err)
	}
	if change != nil {
		change(&template)
	}
	return flaggerHash(template), nil
}

func decode(raw, into any) error {
	if raw == nil {
		return errors.New("the object has none")
	}
	text, err := json.Marshal(raw)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// flaggerHash is contract section 3.3.1: the digits of a hash of 32 bits, each replaced by a letter or digit that spells nothing.
func flaggerHash(value any) string {
	printer := spew.ConfigState{Indent: " ", SortKeys: true, DisableMethods: true, SpewKeys: true}
	h := fnv.New32a()
	// A hash takes everything that is written to it.
	_, _ = printer.Fprintf(h, "%#v", value)
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}
