package controller

import (
	"strings"
	"unicode/utf8"
)

// maxMessage bounds, in bytes, the errors that become conditions and events. An error of the API server may quote a whole
// object; a status full of them would be more than etcd stores, and every write of it refused.
const maxMessage = 2 << 10

// shortened cuts a text at a whole character.
func shortened(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	end := maxMessage
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// firstLine is what a panic says; what follows is a stack, which differs each time.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return shortened(line)
}
