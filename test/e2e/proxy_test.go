package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// call is a request to the API server.
type call struct {
	// verb is that of Kubernetes, or "check" for what an operator asks before it begins, and gives up if it fails.
	verb string
	// resource is the name in the plural, with a subresource after a slash. Discovery is a resource, too.
	resource, name string
}

// kind is what a call is, whatever object it is about.
func (c call) kind() string { return c.verb + " " + c.resource }

func (c call) String() string { return c.kind() + " " + c.name }

// writes is whether a call changes an object.
func (c call) writes() bool {
	switch c.verb {
	case "create", "update", "patch", "delete":
		return true
	}
	return false
}

// parse reads a request, and its body if the name of an object is only found there.
func parse(r *http.Request) (call, error) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	prefix := 2
	if parts[0] == "apis" {
		prefix = 3
	}
	if len(parts) < prefix {
		return call{"check", "version", r.URL.Path}, nil
	}
	if len(parts) == prefix {
		return call{"get", "discovery", r.URL.Path}, nil
	}
	parts = parts[prefix:]
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	c := call{resource: parts[0]}
	if len(parts) > 1 {
		c.name = parts[1]
	}
	if len(parts) > 2 {
		c.resource += "/" + parts[2]
	}
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodPost:
		c.verb = "create"
		return c, c.readName(r)
	case r.Method != http.MethodGet:
		c.verb = map[string]string{http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete"}[r.Method]
		// A write whose body breaks off is none: the API server answers it with an error, too.
		_, err := readBody(&r.Body)
		return c, err
	case query.Get("watch") != "":
		c.verb = "watch"
	case query.Get("limit") == "1":
		c.verb = "check"
	case c.name == "":
		c.verb = "list"
	default:
		c.verb = "get"
	}
	return c, nil
}

func (c *call) readName(r *http.Request) error {
	object, err := peek(&r.Body)
	if err != nil {
		return err
	}
	c.name = object.GetName()
	return nil
}

// peek reads the object in a body and leaves the body to be read again.
func peek(from *io.ReadCloser) (metav1.Object, error) {
	body, err := readBody(from)
	if err != nil {
		return nil, err
	}
	return read(body)
}

// readBody reads a body and leaves it to be read again.
func readBody(from *io.ReadCloser) ([]byte, error) {
	body, err := io.ReadAll(*from)
	*from = io.NopCloser(bytes.NewReader(body))
	return body, err
}

// read decodes the object in a body: the kinds of Kubernetes itself may come as protocol buffers.
func read(body []byte) (metav1.Object, error) {
	if object, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil); err == nil {
		return meta.Accessor(object)
	}
	object := &metav1.PartialObjectMetadata{}
	return object, json.Unmarshal(body, object)
}

// fault is a way in which a call fails.
type fault string

const (
	conflict   fault = "conflict"
	unsent     fault = "connection cut before the write"
	unanswered fault = "connection cut after the write"
	held       fault = "answer held until the client gives up"
	overloaded fault = "too many requests"
	broken     fault = "internal error"
	unknown    fault = "not found"
	forbidden  fault = "forbidden"
)

// answer is what the API server says to a call that fails in this way, nil if it says nothing.
func (f fault) answer(c call) *apierrors.StatusError {
	resource := schema.GroupResource{Resource: c.resource}
	switch f {
	case conflict:
		return apierrors.NewConflict(resource, c.name, errors.New("somebody else was faster"))
	case overloaded:
		return apierrors.NewTooManyRequests("busy", 1)
	case broken:
		return apierrors.NewInternalError(errors.New("etcd has no leader"))
	case unknown:
		if c.verb == "create" {
			return apierrors.NewGenericServerResponse(http.StatusNotFound, "POST", resource, "", "", 0, true)
		}
		return apierrors.NewNotFound(resource, c.name)
	case forbidden:
		return apierrors.NewForbidden(resource, c.name, errors.New("the authorizer is away"))
	case unsent, unanswered, held:
	}
	return nil
}

// proxy stands between an operator and the API server. It counts what goes through it and makes calls fail.
type proxy struct {
	*httptest.Server
	upstream *httputil.ReverseProxy
	// choose says how a call fails, empty if it does not. It may be nil.
	choose func(call) fault
	// began and ended are told of each call that goes through, and the latter of the answer. They may be nil.
	began func(call)
	ended func(call, *http.Response) error
	// through is the URL of what its clients connect through. It may be empty.
	through string

	mu      sync.Mutex
	counted map[call]int
}

// proxy returns one before the cluster of the team.
func (t *team) proxy() *proxy {
	t.Helper()
	return t.proxyTo(t.config)
}

// proxyTo returns one before a cluster.
func (t *team) proxyTo(config *rest.Config) *proxy {
	t.Helper()
	server, _, err := rest.DefaultServerUrlFor(config)
	t.must(err)
	p := &proxy{counted: map[call]int{}}
	p.upstream = &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: server.Scheme, Host: server.Host}) },
		ModifyResponse: p.answered,
		FlushInterval:  -1,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	p.upstream.Transport, err = rest.TransportFor(config)
	t.must(err)
	p.Server = httptest.NewServer(p)
	t.Cleanup(func() {
		p.CloseClientConnections()
		p.Close()
	})
	return p
}

// kubeconfig writes the configuration of a client that goes through the proxy.
func (p *proxy) kubeconfig(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q, proxy-url: %q}}],
users: [{name: c, user: {}}], contexts: [{name: c, context: {cluster: c, user: c}}]}`, p.URL, p.through)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := parse(r)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	p.mu.Lock()
	p.counted[c]++
	p.mu.Unlock()
	f := fault("")
	if p.choose != nil {
		f = p.choose(c)
	}
	if status := f.answer(c); status != nil {
		refuse(w, status)
		return
	}
	if f == unsent {
		panic(http.ErrAbortHandler)
	}
	if p.began != nil {
		p.began(c)
	}
	if f == "" {
		p.upstream.ServeHTTP(w, r)
		return
	}
	if c.verb != "watch" {
		p.upstream.ServeHTTP(httptest.NewRecorder(), r)
	}
	if f == held {
		<-r.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

// answered reports an answer.
func (p *proxy) answered(response *http.Response) error {
	if p.ended == nil {
		return nil
	}
	return p.ended(response.Request.Context().Value(callKey{}).(call), response)
}

// callKey is the key of the call in the context of its request.
type callKey struct{}

func refuse(w http.ResponseWriter, status *apierrors.StatusError) {
	w.Header().Set("Content-Type", "application/json")
	if status.ErrStatus.Code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	s := status.Status()
	s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	w.WriteHeader(int(s.Code))
	_ = json.NewEncoder(w).Encode(s)
}

// calls returns how often each call was made so far.
func (p *proxy) calls() map[call]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counted)
}
