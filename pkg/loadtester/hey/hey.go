// Package hey is the command hey on its own library, with the same flags and the same report, so that commands of today run where
// no such program is installed.
package hey

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/rakyll/hey/requester"
	"golang.org/x/net/http/httpguts"
)

// agent is what hey calls itself, with which servers may tell its requests.
const agent = "hey/0.0.1"

// options are the flags.
type options struct {
	requests, workers   int
	perSecond           float64
	duration            time.Duration
	timeout, cpus       int
	output              string
	method, body        string
	bodyFile, accept    string
	contentType, user   string
	userAgent, host     string
	proxy               string
	headers             []string
	http2               bool
	noCompression       bool
	noKeepAlive, noFoll bool
}

func (o *options) flags(output io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet("hey", flag.ContinueOnError)
	fs.SetOutput(output)
	fs.IntVar(&o.requests, "n", 200, "Number of requests. Ignored with -z.")
	fs.IntVar(&o.workers, "c", 50, "Number of requests at the same time.")
	fs.Float64Var(&o.perSecond, "q", 0, "Requests per second of each worker. 0 means no limit.")
	fs.DurationVar(&o.duration, "z", 0, "Time to send requests, as in 1m.")
	fs.StringVar(&o.output, "o", "", "Output: csv, or a summary.")
	fs.StringVar(&o.method, "m", http.MethodGet, "Method.")
	fs.Func("H", "Header, as in 'Accept: text/html'. May be repeated.", func(h string) error { o.headers = append(o.headers, h); return nil })
	fs.IntVar(&o.timeout, "t", 20, "Seconds that a request may take. 0 means no limit.")
	fs.StringVar(&o.accept, "A", "", "Header Accept.")
	fs.StringVar(&o.body, "d", "", "Body.")
	fs.StringVar(&o.bodyFile, "D", "", "File with the body.")
	fs.StringVar(&o.contentType, "T", "text/html", "Header Content-Type.")
	fs.StringVar(&o.userAgent, "U", "", "Header User-Agent.")
	fs.StringVar(&o.user, "a", "", "User and password, as in user:password.")
	fs.StringVar(&o.proxy, "x", "", "Proxy, as in host:port.")
	fs.BoolVar(&o.http2, "h2", false, "Use HTTP/2.")
	fs.StringVar(&o.host, "host", "", "Header Host.")
	fs.BoolVar(&o.noCompression, "disable-compression", false, "Ask for no compression.")
	fs.BoolVar(&o.noKeepAlive, "disable-keepalive", false, "Use a connection per request.")
	fs.BoolVar(&o.noFoll, "disable-redirects", false, "Follow no redirects.")
	fs.IntVar(&o.cpus, "cpus", runtime.GOMAXPROCS(0), "Number of processors.")
	fs.Usage = func() {
		_, _ = fmt.Fprintln(output, "Usage: hey [flags] URL")
		fs.PrintDefaults()
	}
	return fs
}

// Main runs the command until it is done or ctx ends, and returns its exit code. Answers of the server are no failures, whatever
// they are: the report tells them.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o := &options{}
	fs := o.flags(stderr)
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 1
	}
	work, err := o.work(fs.Args())
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "hey:", err)
		return 1
	}
	work.Writer = stdout
	runtime.GOMAXPROCS(o.cpus)
	if o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	work.Init()
	defer context.AfterFunc(ctx, work.Stop)()
	work.Run()
	return 0
}

// work is what the flags ask for.
func (o *options) work(args []string) (*requester.Work, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("one URL is needed behind the flags, not %q", args)
	}
	if o.workers < 1 || o.requests < 1 {
		return nil, errors.New("-n and -c must be at least 1")
	}
	switch {
	case o.duration > 0:
		o.requests = math.MaxInt32
	case o.requests < o.workers:
		return nil, errors.New("-n must not be less than -c")
	}
	if o.output != "" && o.output != "csv" {
		return nil, fmt.Errorf("-o must be csv, not %q", o.output)
	}
	body := []byte(o.body)
	if o.bodyFile != "" {
		var err error
		if body, err = os.ReadFile(o.bodyFile); err != nil {
			return nil, fmt.Errorf("-D: %w", err)
		}
	}
	request, err := o.request(args[0], len(body))
	if err != nil {
		return nil, err
	}
	proxy, err := o.proxyURL()
	return &requester.Work{
		Request: request, RequestBody: body, N: o.requests, C: o.workers, QPS: o.perSecond, Timeout: o.timeout, H2: o.http2,
		DisableCompression: o.noCompression, DisableKeepAlives: o.noKeepAlive, DisableRedirects: o.noFoll, ProxyAddr: proxy, Output: o.output,
	}, err
}

func (o *options) request(address string, length int) (*http.Request, error) {
	request, err := http.NewRequest(strings.ToUpper(o.method), address, nil)
	if err != nil {
		return nil, err
	}
	if request.URL.Host == "" {
		return nil, fmt.Errorf("%q is not a URL like http://podinfo-canary.test:9898/", address)
	}
	request.ContentLength = int64(length)
	request.Header.Set("Content-Type", o.contentType)
	for _, h := range o.headers {
		name, value, _ := strings.Cut(h, ":")
		if value = strings.TrimSpace(value); !httpguts.ValidHeaderFieldName(name) || value == "" {
			return nil, fmt.Errorf("-H %q is not like 'Name: value'", h)
		}
		request.Header.Set(name, value)
	}
	if o.accept != "" {
		request.Header.Set("Accept", o.accept)
	}
	if o.user != "" {
		user, password, ok := strings.Cut(o.user, ":")
		if !ok {
			return nil, errors.New("-a is not like user:password")
		}
		request.SetBasicAuth(user, password)
	}
	// The library of the language takes the host from here, and not from the headers.
	request.Host = cmp.Or(o.host, request.Header.Get("Host"), request.Host)
	request.Header.Set("User-Agent", strings.TrimSpace(cmp.Or(o.userAgent, request.Header.Get("User-Agent"))+" "+agent))
	return request, nil
}

func (o *options) proxyURL() (*url.URL, error) {
	if o.proxy == "" {
		return nil, nil
	}
	address := o.proxy
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	proxy, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("-x is not like host:port: %w", errors.Unwrap(err))
	}
	return proxy, nil
}
