package prometheus

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/metrics/googletoken"
)

const (
	// googleHost is where Google serves what its managed Prometheus has collected. It takes nothing but tokens of Google.
	googleHost = "monitoring.googleapis.com"
	// signedService is the name of Amazon Managed Service for Prometheus in signatures.
	signedService = "aps"
	// emptyBody is the SHA-256 of a request without body.
	emptyBody = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// identities are what the clouds know the operator by.
type identities struct {
	clock      clock.PassiveClock
	google     *googletoken.Accounts
	googleHost string

	mu sync.Mutex
	// regions keep the credentials of Amazon until they expire.
	regions map[string]aws.CredentialsProvider
}

// bearer returns what adds a token of Google, for a key or, without one, for the identity of the operator.
func (i *identities) bearer(key []byte) func(*http.Request) error {
	return func(r *http.Request) error {
		token, _, err := i.google.Token(r.Context(), key)
		if err == nil {
			token.SetAuthHeader(r)
		}
		return err
	}
}

// signer returns what signs requests by Signature Version 4.
func (i *identities) signer(region string) func(*http.Request) error {
	return func(r *http.Request) error {
		provider, err := i.credentials(r.Context(), region)
		if err != nil {
			return err
		}
		credentials, err := provider.Retrieve(r.Context())
		if err != nil {
			return fmt.Errorf("the operator has no identity of Amazon: %w", err)
		}
		// Signed is the host that is really called: a header of the template must not make the signature good for another.
		r.Host = r.URL.Host
		return v4.NewSigner().SignHTTP(r.Context(), credentials, r, emptyBody, signedService, region, i.clock.Now())
	}
}

// credentials reads files and environment, and asks nobody yet.
func (i *identities) credentials(ctx context.Context, region string) (aws.CredentialsProvider, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if known := i.regions[region]; known != nil {
		return known, nil
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(region))
	if err != nil {
		return nil, fmt.Errorf("configuration of the AWS SDK: %w", err)
	}
	i.regions[region] = cfg.Credentials
	return cfg.Credentials, nil
}
