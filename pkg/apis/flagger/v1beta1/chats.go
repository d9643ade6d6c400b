package v1beta1

import (
	"net/url"
	"strings"
)

// chatServices are the hosts of chat services that take nothing but messages of their own, by the type of AlertProvider that writes
// those. A leading dot stands for all hosts below.
func chatServices() map[string]string {
	return map[string]string{
		"hooks.slack.com":     "slack",
		"discord.com":         "discord",
		"discordapp.com":      "discord",
		"chat.googleapis.com": "gchat",
		"outlook.office.com":  "msteams",
		".webhook.office.com": "msteams",
	}
}

// ChatService is the type of AlertProvider for the chat service that a webhook leads to, empty if it leads to none that is known. A chat
// service refuses the payload of a webhook.
func (w *CanaryWebhook) ChatService() string {
	address, err := url.Parse(w.URL)
	if err != nil {
		return ""
	}
	host := strings.ToLower(address.Hostname())
	for known, service := range chatServices() {
		if host == known || known[0] == '.' && strings.HasSuffix(host, known) {
			return service
		}
	}
	return ""
}
