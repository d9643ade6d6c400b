package main

import (
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestEventsToAChatServiceAreTold(t *testing.T) {
	for address, want := range map[string]int{"": 0, "http://broker.test": 0, "https://hooks.slack.com/services/1": 1} {
		core, logs := observer.New(zap.InfoLevel)
		if warnOfChat(&options{eventWebhook: address}, zap.New(core)); logs.Len() != want {
			t.Errorf("%q: logged %v", address, logs.All())
		}
	}
}

// A receiver that can't work is told and costs nothing else.
func TestGlobalReceivers(t *testing.T) {
	const teams, chat = "https://acme.webhook.office.com/1", "https://hooks.slack.com/services/1"
	for name, tc := range map[string]struct {
		slack, channel, teams string
		receivers, errors     int
	}{
		"none":           {},
		"slack":          {slack: chat, channel: "general", receivers: 1},
		"both":           {slack: chat, channel: "general", teams: teams, receivers: 2},
		"no channel":     {slack: chat, teams: teams, receivers: 1, errors: 1},
		"one character":  {slack: "h", channel: "general", errors: 1},
		"29 characters":  {teams: "https-acme-webhook-office-com", errors: 1},
		"31 characters":  {teams: "https://acme.webhook.office.com", receivers: 1},
		"not even a URL": {slack: "http://[::1", channel: "general", errors: 1},
	} {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zap.InfoLevel)
			o := &options{slack: slackOptions{url: tc.slack, channel: tc.channel}, msteams: teamsOptions{url: tc.teams}}
			if got := globalReceivers(o, zap.New(core)); len(got) != tc.receivers || logs.Len() != tc.errors {
				t.Errorf("%d receivers, logged %v", len(got), logs.All())
			}
		})
	}
}
