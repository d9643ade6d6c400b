package workload

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
)

// observeConfigs returns the checksums of the ConfigMaps and Secrets that the pods of a target read, with keys as in a
// status: ours, and those that Flagger would have. Neither is nil when there are none, and both are when they are not all known: what
// is missing is not what changed.
func observeConfigs(namespace string, needed map[configKey]bool, live router.Live) (configs, flaggers map[string]string, problem *rollout.Problem) {
	var first problems
	configs, flaggers = map[string]string{}, map[string]string{}
	keys := slices.SortedFunc(maps.Keys(needed), func(a, b configKey) int { return strings.Compare(a.String(), b.String()) })
	for _, key := range keys {
		ref := key.ref(namespace)
		obj, err := live.Get(ref)
		switch {
		case err != nil:
			first.add(configUnreadable(namespace, key, err))
		case obj == nil && needed[key]:
			first.add(configNotFound(namespace, key))
		case obj != nil && trackable(obj):
			d := digestOf(obj)
			configs[key.String()], flaggers[key.String()] = d.all, d.data
		}
	}
	if first.problem != nil {
		return nil, nil, first.problem
	}
	return configs, flaggers, nil
}

func configNotFound(namespace string, key configKey) *rollout.Problem {
	return &rollout.Problem{
		Reason: rollout.ReasonConfigNotFound,
		Message: fmt.Sprintf("GetTargetConfigs failed: %s %s.%s get query error: %s %q not found: create it, correct the reference in the pod template of "+
			"the target, or mark the reference optional", key.kind, key.name, namespace,
			key.ref("").Resource.Resource, key.name),
	}
}

// configsOfCopy tells with which configs the pods of a primary were started that is a copy of a revision. A primary that
// Flagger made carries no record: there the copies themselves count, by their data alone, which is all that Flagger copied.
func configsOfCopy(c *v1beta1.Canary, known *knownTemplate, primary *unstructured.Unstructured, copied string, recorded bool,
	now map[string]string, live router.Live) (map[string]string, *rollout.Problem) {
	if recorded {
		return known.recordedConfigs(primary), nil
	}
	if promoted := promotedOf(c); promoted != nil && promoted.Fingerprint == copied {
		return promoted.Configs, nil
	}
	out := map[string]string{}
	names := namesIn(c, known.mandatoryConfigs(primary), now)
	for s, name := range names {
		key := configKeyOf(s)
		source, err := live.Get(key.ref(c.Namespace))
		if err != nil || source == nil {
			return nil, unreadable(c, key, err)
		}
		theirs, err := live.Get(configKey{key.kind, name}.ref(c.Namespace))
		if err != nil {
			return nil, unreadable(c, configKey{key.kind, name}, err)
		}
		if theirs != nil && digestOf(theirs).data == digestOf(source).data {
			out[s] = now[s]
		}
	}
	return out, nil
}

func unreadable(c *v1beta1.Canary, key configKey, err error) *rollout.Problem {
	if err == nil {
		return configNotFound(c.Namespace, key)
	}
	return configUnreadable(c.Namespace, key, err)
}

func configUnreadable(namespace string, key configKey, err error) *rollout.Problem {
	return &rollout.Problem{
		Reason: rollout.ReasonReadFailed, Unknown: true,
		Message: fmt.Sprintf("GetTargetConfigs failed: %s %s.%s get query error: %v", key.kind, key.name, namespace, err),
	}
}

func promotedOf(c *v1beta1.Canary) *v1beta1.RevisionRef {
	if c.Status.Rollout == nil {
		return nil
	}
	return c.Status.Rollout.Promoted
}

func podSpecPath() []string { return []string{"spec", "template", "spec"} }

// configResources lists the resources of configs that a pod spec refers to, so that only they are watched.
func configResources(configs map[configKey]bool) []router.Ref {
	var refs []router.Ref
	seen := map[string]bool{}
	for key := range configs {
		if !seen[key.kind] {
			seen[key.kind] = true
			ref := key.ref("")
			ref.Name = ""
			refs = append(refs, ref)
		}
	}
	return refs
}
