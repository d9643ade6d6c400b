// Package googletoken fetches the tokens that Google Cloud Monitoring is asked with, for the key of a service account or for the
// identity of the operator.
package googletoken

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"flagger.app/flagger/pkg/outbound"
)

const (
	// scope allows to read metrics.
	scope = "https://www.googleapis.com/auth/monitoring.read"
	// maxAccounts bounds how many accounts keep their token. A key that is replaced stays until there are more.
	maxAccounts = 64
	// tokenTimeout is how long a token may take. The library waits for it whatever the query's deadline is.
	tokenTimeout = 5 * time.Second
)

// account is an identity that fetches a token when the last one has expired.
type account struct {
	tokens oauth2.TokenSource
	// project is where the account belongs, if it is known.
	project string
}

// Accounts keeps one account for each key, by its checksum, and one without a key: the identity of the operator.
type Accounts struct {
	// tokens fetches those for keys, which say themselves where to; own fetches the operator's, which may be at a link-local address.
	tokens, own *http.Client
	mu          sync.Mutex
	known       map[[sha256.Size]byte]*account
}

// New returns Accounts without tokens.
func New(transports *outbound.Transports) *Accounts {
	return &Accounts{
		tokens: &http.Client{Transport: transports.To(outbound.Destination{}), Timeout: tokenTimeout},
		own:    &http.Client{Timeout: tokenTimeout},
		known:  map[[sha256.Size]byte]*account{},
	}
}

// Check reads a key, which may be absent. Errors don't quote it.
func Check(key []byte) error {
	if len(key) == 0 {
		return nil
	}
	if _, err := google.JWTConfigFromJSON(key, scope); err != nil {
		// The error may quote the key.
		return errors.New("it is not the JSON of a key of a service account")
	}
	return nil
}

// Token is a fresh one, and the project that its account belongs to, which may be unknown.
func (a *Accounts) Token(ctx context.Context, key []byte) (token *oauth2.Token, project string, err error) {
	who, err := a.account(ctx, key)
	if err != nil {
		return nil, "", err
	}
	if token, err = who.tokens.Token(); err != nil {
		return nil, who.project, fmt.Errorf("no token of Google: %w", brief(err))
	}
	return token, who.project, nil
}

// brief leaves out what the token server answered, which may repeat the assertion that was sent.
func brief(err error) error {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.Response != nil {
		return fmt.Errorf("the server for tokens answered %s", refused.Response.Status)
	}
	return err
}

func (a *Accounts) account(ctx context.Context, key []byte) (*account, error) {
	id := sha256.Sum256(key)
	a.mu.Lock()
	defer a.mu.Unlock()
	if who := a.known[id]; who != nil {
		return who, nil
	}
	// Tokens outlive the query that fetches the first, so the context that they are fetched in must, too.
	client := a.tokens
	if len(key) == 0 {
		client = a.own
	}
	fetching := context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, client)
	who, err := a.load(fetching, key)
	if err != nil {
		return nil, err
	}
	if len(a.known) >= maxAccounts {
		clear(a.known)
	}
	a.known[id] = who
	return who, nil
}

func (a *Accounts) load(ctx context.Context, key []byte) (*account, error) {
	if len(key) > 0 {
		config, err := google.JWTConfigFromJSON(key, scope)
		if err != nil {
			return nil, err
		}
		return &account{tokens: config.TokenSource(ctx)}, nil
	}
	found, err := google.FindDefaultCredentials(ctx, scope)
	if err != nil {
		return nil, fmt.Errorf("the operator has no identity of Google: add the key serviceAccountKey to the Secret of the template, or give the operator one by workload identity: %w", err)
	}
	return &account{tokens: found.TokenSource, project: found.ProjectID}, nil
}
