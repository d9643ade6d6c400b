package adopted

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"

	"flagger.app/flagger/pkg/router"
)

// leastSum is the least sum of our two weights beside backends of others. Below, the nearest whole weight may be more than a point
// away from what a step asks for.
const leastSum = 50

// split is a rule that has both Services as backends.
type split struct {
	kind *Kind
	// list is the field that the rule stands in, at is its place in the words of messages.
	list []string
	at   string
	rule map[string]any
	// primary and canary are the backends of the two sides, of which there is to be one each, others is the weight of all the rest.
	primary, canary []map[string]any
	others          int64
}

// weight is that of a backend.
func (s *split) weight(backend map[string]any) int64 {
	if backend["weight"] == nil {
		return s.kind.Weight
	}
	return router.Integer(backend["weight"])
}

func (s *split) weights() (primary, canary int64) {
	for _, backend := range s.primary {
		primary += s.weight(backend)
	}
	for _, backend := range s.canary {
		canary += s.weight(backend)
	}
	return primary, canary
}

func (s *split) sum() int64 {
	primary, canary := s.weights()
	return primary + canary
}

// share is what the canary gets of the traffic of the two sides, in percent, or -1 if neither gets any.
func (s *split) share() int32 {
	_, canary := s.weights()
	sum := s.sum()
	if sum <= 0 {
		return -1
	}
	return int32((canary*100 + sum/2) / sum)
}

// fault says why weights can't be shifted in a rule, empty if they can.
func (s *split) fault() string {
	switch sum := s.sum(); {
	case len(s.primary) > 1 || len(s.canary) > 1:
		return fmt.Sprintf("%s has the same Service as a backend more than once: leave one of them", s.at)
	case s.others > 0 && sum < leastSum:
		return fmt.Sprintf("the weights of our two backends in %s add up to %d, in which steps of a rollout can't be expressed: multiply all "+
			"weights of the rule, so that the two add up to %d or more and the others keep their share", s.at, sum, leastSum)
	}
	return ""
}

// set shifts the traffic. Beside backends of others the sum of ours stays, and with it the share of each of the others. A
// rule that splits the traffic so already keeps its weights, whatever they add up to.
func (s *split) set(t router.Traffic) {
	primary, canary := s.weights()
	sum := primary + canary
	if sum > 0 && canary*100 == sum*int64(t.Canary) {
		return
	}
	if s.others == 0 {
		sum = 100
	}
	canary = (sum*int64(t.Canary) + 50) / 100
	if t.Canary > 0 && t.Primary > 0 {
		canary = min(max(canary, 1), sum-1)
	}
	s.primary[0]["weight"], s.canary[0]["weight"] = sum-canary, canary
}

// restore gives the backends the weights that those of another split have, or none if they have none.
func (s *split) restore(was *split) {
	for _, pair := range [][2][]map[string]any{{s.primary, was.primary}, {s.canary, was.canary}} {
		for i, backend := range pair[0] {
			if i >= len(pair[1]) {
				continue
			}
			if weight := pair[1][i]["weight"]; weight != nil {
				backend["weight"] = weight
			} else if s.weight(backend) != s.kind.Weight {
				delete(backend, "weight")
			}
		}
	}
}

// identity is the rule without the weights of ours.
func (s *split) identity() string {
	bare := *s
	bare.rule = runtime.DeepCopyJSON(s.rule)
	backends, _ := bare.rule[s.kind.Backends].([]any) //nolint:errcheck // a split has backends
	for _, item := range backends {
		if backend, ok := item.(map[string]any); ok {
			delete(backend, "weight")
		}
	}
	raw, err := json.Marshal(bare.rule)
	if err != nil {
		// Unstructured content is made of JSON values, which always marshal.
		return ""
	}
	return string(raw)
}
