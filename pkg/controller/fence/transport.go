package fence

import (
	"context"
	"io"
	"net/http"
)

// Transport sends the writes of work only while its Fence is open. Reads, and what no Fence is for, such as the renewals themselves, it
// sends at any time. It belongs right above the connections: what waits above it may wait until it closes.
type Transport struct {
	Next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	if request.Method == http.MethodGet || request.Method == http.MethodHead || ctx.Value(key{}) == nil {
		return t.Next.RoundTrip(request)
	}
	if err := Check(ctx); err != nil {
		if request.Body != nil {
			request.Body.Close()
		}
		return nil, err
	}
	if request.Body == nil || request.Body == http.NoBody {
		return t.Next.RoundTrip(request)
	}
	// It may take long until there is a connection, and nobody is asked meanwhile. The body is read when there is one: a request whose
	// body breaks off is none.
	guarded := request.Clone(ctx)
	guarded.Body = body{request.Body, ctx}
	if again := request.GetBody; again != nil {
		guarded.GetBody = func() (io.ReadCloser, error) {
			b, err := again()
			return body{b, ctx}, err
		}
	}
	return t.Next.RoundTrip(guarded)
}

// WrappedRoundTripper lets the client library find what is below.
func (t Transport) WrappedRoundTripper() http.RoundTripper { return t.Next }

// body is that of a write.
type body struct {
	io.ReadCloser
	ctx context.Context
}

func (b body) Read(p []byte) (int, error) {
	if err := Check(b.ctx); err != nil {
		return 0, err
	}
	return b.ReadCloser.Read(p)
}
