package notify

import (
	"fmt"
	"strconv"
	"strings"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// NewAlert builds an alert about the Canary. The field Cluster is there if the operator has a cluster name; withDetails adds
// what is being rolled out and how.
func NewAlert(c *v1beta1.Canary, severity v1beta1.AlertSeverity, message, clusterName string, withDetails bool) Alert {
	a := Alert{Namespace: c.Namespace, Name: c.Name, Severity: severity, Message: message, Wanted: c.GetAnalysis().Alerts}
	if clusterName != "" {
		a.Fields = append(a.Fields, Field{"Cluster", clusterName})
	}
	if withDetails {
		a.Fields = append(a.Fields, details(c)...)
	}
	return a
}

// details shows the values of the spec as they are written, without defaults, except for the deadline.
func details(c *v1beta1.Canary) []Field {
	target := c.Spec.TargetRef
	fields := []Field{
		{"Target", fmt.Sprintf("%s/%s.%s", target.Kind, target.Name, c.Namespace)},
		{"Failed checks threshold", strconv.Itoa(int(c.GetAnalysis().Threshold))},
		{"Progress deadline", fmt.Sprintf("%ds", c.GetProgressDeadlineSeconds())},
	}
	if routing := routing(c); routing != "" {
		fields = append(fields, Field{"Traffic routing", routing})
	}
	return fields
}

func routing(c *v1beta1.Canary) string {
	analysis := c.GetAnalysis()
	switch {
	case c.DeploymentStrategy() == v1beta1.DeploymentStrategyABTesting:
		return "A/B Testing"
	case c.DeploymentStrategy() == v1beta1.DeploymentStrategyBlueGreen:
		return "Blue/Green"
	case analysis.StepWeight > 0:
		return fmt.Sprintf("Weight step: %d max: %d", analysis.StepWeight, analysis.MaxWeight)
	case len(analysis.StepWeights) > 0:
		steps := make([]string, len(analysis.StepWeights))
		for i, w := range analysis.StepWeights {
			steps[i] = strconv.Itoa(int(w))
		}
		return fmt.Sprintf("Weight steps: %s max: %d", strings.Join(steps, ","), analysis.MaxWeight)
	}
	return ""
}
