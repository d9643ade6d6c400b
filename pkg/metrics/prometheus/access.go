package prometheus

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"flagger.app/flagger/pkg/metrics/googletoken"
	"flagger.app/flagger/pkg/metrics/httpapi"
	"flagger.app/flagger/pkg/metrics/provider"
	"flagger.app/flagger/pkg/outbound"
)

// Keys of the Secret. Each is optional, but it has one of them.
const (
	keyToken = "token"
	// keyUsername and keyPassword go together.
	keyUsername, keyPassword = "username", "password"
	// keyHeaders holds lines of the form Name: value, for headers that are secret.
	keyHeaders = "headers"
	// keyCA is a bundle of authorities, instead of those of the system.
	keyCA = "ca.crt"
	// keyCertificate and keyKey go together. They are those of a Secret of type kubernetes.io/tls.
	keyCertificate, keyKey = "tls.crt", "tls.key"
	// keyServiceAccount is the JSON of a key, for Google alone.
	keyServiceAccount = "serviceAccountKey"
)

// access is how a server is asked.
type access struct {
	authorize func(*http.Request) error
	headers   map[string][]string
	tls       *outbound.TLS
	// secrets must not be shown.
	secrets []string
}

func accessOf(cfg provider.Config, who *identities) (*access, error) {
	a := &access{headers: cfg.Spec.Headers}
	if cfg.Spec.SecretRef != nil {
		if err := a.read(cfg.Credentials); err != nil {
			return nil, fmt.Errorf("secret %s %w", cfg.Spec.SecretRef.Name, err)
		}
	}
	if a.authorize != nil {
		if cfg.Spec.Region != "" {
			return nil, errors.New("provider.region asks for a signature, and the Secret holds other credentials: remove one of them")
		}
		return a, nil
	}
	if cfg.Spec.Region != "" {
		a.authorize = who.signer(cfg.Spec.Region)
		return a, nil
	}
	if address, err := url.Parse(cfg.Spec.Address); err == nil && address.Scheme == "https" && address.Host == who.googleHost {
		var key []byte
		if cfg.Spec.SecretRef != nil {
			key = cfg.Credentials[keyServiceAccount]
		}
		a.authorize = who.bearer(key)
	}
	return a, nil
}

// read takes what the Secret holds.
func (a *access) read(secret map[string][]byte) error {
	token, err := a.credentials(secret)
	if err != nil {
		return err
	}
	lines, err := a.secretHeaders(secret[keyHeaders])
	if err != nil {
		return err
	}
	if a.tls, err = outbound.NewTLS(secret[keyCA], secret[keyCertificate], secret[keyKey]); err != nil {
		return fmt.Errorf("has the keys %s, %s and %s: %w", keyCA, keyCertificate, keyKey, err)
	}
	account := secret[keyServiceAccount]
	if err := googletoken.Check(account); err != nil {
		return fmt.Errorf("has the key %s: %w", keyServiceAccount, err)
	}
	if !token && !lines && a.tls == nil && len(account) == 0 {
		return fmt.Errorf("has neither the key %s nor the keys %s and %s, nor %s, %s, or %s with %s: add them, or remove provider.secretRef",
			keyToken, keyUsername, keyPassword, keyHeaders, keyCA, keyCertificate, keyKey)
	}
	return nil
}

func (a *access) credentials(secret map[string][]byte) (found bool, err error) {
	if token, ok := secret[keyToken]; ok {
		text := strings.TrimSpace(string(token))
		a.authorize, a.secrets = httpapi.Header("Authorization", "Bearer "+text), []string{text}
		return true, nil
	}
	username, hasUser := secret[keyUsername]
	password, hasPassword := secret[keyPassword]
	if hasUser != hasPassword {
		return false, fmt.Errorf("has one of the keys %s and %s: add the other", keyUsername, keyPassword)
	}
	if hasUser {
		a.authorize, a.secrets = httpapi.Basic(lineOf(username), lineOf(password)), []string{lineOf(password)}
	}
	return hasUser, nil
}

// secretHeaders adds headers to those of the template, whose map belongs to a cache. Errors don't quote the line.
func (a *access) secretHeaders(text []byte) (found bool, err error) {
	all := maps.Clone(a.headers)
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = http.CanonicalHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
		if !ok || name == "" || value == "" {
			return false, fmt.Errorf("has the key %s with a line that is not like X-Scope-OrgID: team-a", keyHeaders)
		}
		if all == nil {
			all = map[string][]string{}
		}
		all[name] = append(all[name], value)
		a.secrets = append(a.secrets, value)
		found = true
	}
	a.headers = all
	return found, nil
}

// lineOf leaves out the line break that editors leave at the end.
func lineOf(text []byte) string { return strings.TrimRight(string(text), "\r\n") }
