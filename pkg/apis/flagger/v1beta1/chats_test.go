package v1beta1_test

import (
	"testing"

	flaggerv1 "flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func TestChatServices(t *testing.T) {
	for address, want := range map[string]string{
		"https://hooks.slack.com/services/T0/B0/secret":        "slack",
		"https://HOOKS.slack.com:443/services":                 "slack",
		"https://discord.com/api/webhooks/1/secret":            "discord",
		"https://acme.webhook.office.com/webhookb2/1":          "msteams",
		"https://outlook.office.com/webhook/1":                 "msteams",
		"https://chat.googleapis.com/v1/spaces/1/messages":     "gchat",
		"http://flagger-loadtester.test/":                      "",
		"https://hooks.slack.com.example.com/":                 "",
		"https://example.com/?to=hooks.slack.com":              "",
		"https://webhook.office.com.test/":                     "",
		"https://prod-1.westeurope.logic.azure.com/workflows/": "",
		"http://[::1": "",
		"":            "",
	} {
		if got := (&flaggerv1.CanaryWebhook{URL: address}).ChatService(); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}
