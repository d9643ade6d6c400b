package loadtester

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// shellSyntax are the characters that mean something to a shell where they are not quoted. Those of file names are not among them:
// a shell leaves a URL with a ? as it is, too, where no file fits.
const shellSyntax = "|&;<>()$`\n"

var (
	errQuote = errors.New("a quote is not closed")
	errShell = errors.New("needs a shell")
)

// words splits a command as a shell does, with quotes, but expands nothing. A backslash escapes white space, quotes and itself;
// before anything else it stays, as helm has it in --set a\.b=c.
func words(command string) ([]string, error) { return split(command, "") }

// wordsOfShell is words for a command that was meant for a shell. One that wants more of it than quotes is an error.
func wordsOfShell(command string) ([]string, error) {
	return split(strings.TrimSpace(command), shellSyntax)
}

func split(command, refused string) ([]string, error) {
	var (
		all     []string
		word    strings.Builder
		inWord  bool
		quote   rune
		escaped bool
	)
	for _, c := range command {
		switch {
		case escaped && c == '\n' && quote == 0:
			// The line goes on.
			escaped = false
		case escaped:
			if !escapable(c, quote) {
				word.WriteRune('\\')
			}
			word.WriteRune(c)
			escaped, inWord = false, true
		case c == '\\' && quote != '\'':
			escaped = true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			if quote == '"' && strings.ContainsRune("$`", c) && refused != "" {
				return nil, fmt.Errorf("%q %w", string(c), errShell)
			}
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case strings.ContainsRune(refused, c):
			return nil, fmt.Errorf("%q %w", string(c), errShell)
		case unicode.IsSpace(c):
			if inWord {
				all = append(all, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(c)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, errQuote
	}
	if inWord {
		all = append(all, word.String())
	}
	return all, nil
}

// escapable is whether a backslash before c stands for c alone.
func escapable(c, quote rune) bool {
	if quote == '"' {
		return c == '"' || c == '\\'
	}
	return c == '\'' || c == '"' || c == '\\' || unicode.IsSpace(c)
}
