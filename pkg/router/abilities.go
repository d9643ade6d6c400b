package router

import (
	"fmt"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// CheckAbilities lists the fields of a Canary that its provider can't serve, each with what to do about it. Fields that
// "kubernetes" replaces by a blue/green run (analysis.match, weights) are none of them.
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
	add(analysis.Mirror && !a.Mirror, "spec.analysis.mirror",
		"the provider can't mirror traffic: set it to false, or set another spec.provider")
	add(analysis.Mirror && a.Mirror && analysis.MirrorWeight > 0 && !a.MirrorWeight, "spec.analysis.mirrorWeight",
		"the provider can only mirror all requests: remove it, or set another spec.provider")
	faults = append(faults, checkAffinity(analysis.SessionAffinity, a)...)
	add(IsTCP(c) && !a.TCP, "spec.service.appProtocol",
		"the provider can't split TCP connections: set the application protocol, such as http, or set another spec.provider")
	if IsTCP(c) && a.Routes {
		faults = append(faults, checkTCP(analysis)...)
	}
	return faults
}

func checkAffinity(affinity *v1beta1.SessionAffinity, a Abilities) []*FieldError {
	switch {
	case affinity == nil:
		return nil
	case !a.SessionAffinity:
		return []*FieldError{{
			Field:   "spec.analysis.sessionAffinity",
			Message: "the provider has no session affinity: remove it, or set another spec.provider",
		}}
	case affinity.PrimaryCookieName != "" && !a.PrimaryCookie:
		return []*FieldError{{
			Field:   "spec.analysis.sessionAffinity.primaryCookieName",
			Message: "the provider has no cookie for the primary: remove it, or set another spec.provider",
		}}
	default:
		return nil
	}
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
	add(analysis.Mirror, "spec.analysis.mirror")
	add(analysis.SessionAffinity != nil, "spec.analysis.sessionAffinity")
	return faults
}
