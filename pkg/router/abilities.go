package router

import (
	"fmt"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// CheckAbilities lists the fields of a Canary that its provider can't serve and that must not be ignored, each with what to do
// about it. Those that "kubernetes" replaces by a blue/green run (analysis.match, weights) are none of them, and neither are
// those that only add to a rollout (mirroring, session affinity): the rules warn of them and do without.
func CheckAbilities(c *v1beta1.Canary, a Abilities) []*FieldError {
	analysis := c.GetAnalysis()
	var faults []*FieldError
	add := func(unserved bool, field, message string) {
		if unserved {
			faults = append(faults, &FieldError{Field: field, Message: message})
		}
	}
	add(len(analysis.Match) > 0 && a.Routes && !a.Match, "spec.analysis.match",
		"the provider can't route requests by their headers: remove match for a blue/green run, or set another spec.provider")
	add(len(analysis.CanaryMatch) > 0 && !a.CanaryMatch, "spec.analysis.canaryMatch",
		"the provider can't lead some requests to the canary while it shares out the others: remove canaryMatch, or set another spec.provider")
	add(IsTCP(c) && !a.TCP, "spec.service.appProtocol",
		"the provider can't split TCP connections: set the application protocol, such as http, or set another spec.provider")
	if IsTCP(c) && a.Routes {
		faults = append(faults, checkTCP(analysis)...)
	}
	if a.RE2 {
		faults = append(faults, checkRegex(c)...)
	}
	return faults
}

// checkTCP lists what can't be done with connections because it needs requests.
func checkTCP(analysis *v1beta1.CanaryAnalysis) []*FieldError {
	var faults []*FieldError
	add := func(set bool, field string) {
		if set {
			faults = append(faults, &FieldError{
				Field:   field,
				Message: fmt.Sprintf("needs HTTP: remove %s, or set spec.service.appProtocol to http", field),
			})
		}
	}
	add(len(analysis.Match) > 0, "spec.analysis.match")
	add(len(analysis.CanaryMatch) > 0, "spec.analysis.canaryMatch")
	add(analysis.Mirror, "spec.analysis.mirror")
	add(analysis.SessionAffinity != nil, "spec.analysis.sessionAffinity")
	return faults
}
