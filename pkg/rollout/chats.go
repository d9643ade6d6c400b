package rollout

import "fmt"

// chatWarnings names the webhooks whose receiver can't understand them.
func (p *pass) chatWarnings() []string {
	var warnings []string
	for i, w := range p.a.Webhooks {
		if service := w.ChatService(); service != "" {
			warnings = append(warnings, fmt.Sprintf("webhook %d (%s) of the analysis leads to a chat service, which refuses the payload of webhooks: "+
				"make an AlertProvider of type %s and name it in spec.analysis.alerts", i, w.Name, service))
		}
	}
	return warnings
}
