package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// adminAPI is the Admin API of APISIX, version 3, as far as the ingress controller uses it. It keeps what it is told, and says
// which Services a gateway with these routes would send requests to.
type adminAPI struct {
	url     string
	mu      sync.Mutex
	objects map[string]map[string]json.RawMessage
	changed chan struct{}
	watched map[*visitor]bool
}

// newAdminAPI serves on the address of the node, which pods reach.
func newAdminAPI() (*adminAPI, error) {
	listener, err := net.Listen("tcp", "10.244.255.1:0")
	if err != nil {
		return nil, err
	}
	a := &adminAPI{objects: map[string]map[string]json.RawMessage{}, changed: make(chan struct{}), watched: map[*visitor]bool{}}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: a}}
	server.Start()
	a.url = server.URL + "/apisix/admin"
	return a, nil
}

// ServeHTTP knows lists, single objects and nothing else: the controller also asks for schemas of plugins, and does without.
func (a *adminAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/apisix/admin/"), "/")
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case kind == "plugins":
		_, _ = w.Write([]byte("{}"))
	case r.Method == http.MethodGet && id == "":
		list := []map[string]any{}
		for _, id := range slices.Sorted(maps.Keys(a.objects[kind])) {
			list = append(list, a.item(kind, id))
		}
		reply(w, http.StatusOK, map[string]any{"total": len(list), "list": list})
	case r.Method == http.MethodPut:
		a.put(w, r, kind, id)
	case a.objects[kind][id] == nil:
		reply(w, http.StatusNotFound, map[string]any{"message": "Key not found"})
	case r.Method == http.MethodDelete:
		delete(a.objects[kind], id)
		a.tell()
		reply(w, http.StatusOK, map[string]any{"deleted": "1", "key": "/apisix/" + kind + "/" + id})
	default:
		reply(w, http.StatusOK, a.item(kind, id))
	}
}

func (a *adminAPI) item(kind, id string) map[string]any {
	return map[string]any{"key": "/apisix/" + kind + "/" + id, "value": a.objects[kind][id]}
}

// put refuses a route to an upstream that is not there, as APISIX does.
func (a *adminAPI) put(w http.ResponseWriter, r *http.Request, kind, id string) {
	var raw json.RawMessage
	var refers struct {
		UpstreamID string `json:"upstream_id"`
	}
	if err := json.NewDecoder(r.Body).Decode(&raw); err != nil || json.Unmarshal(raw, &refers) != nil {
		reply(w, http.StatusBadRequest, map[string]any{"error_msg": "invalid configuration"})
		return
	}
	if refers.UpstreamID != "" && a.objects["upstreams"][refers.UpstreamID] == nil {
		reply(w, http.StatusBadRequest, map[string]any{"error_msg": "failed to fetch upstream info by upstream id [" + refers.UpstreamID + "]"})
		return
	}
	if a.objects[kind] == nil {
		a.objects[kind] = map[string]json.RawMessage{}
	}
	a.objects[kind][id] = raw
	a.tell()
	reply(w, http.StatusOK, a.item(kind, id))
}

func reply(w http.ResponseWriter, code int, body any) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

// tell shows all visitors what has changed.
func (a *adminAPI) tell() {
	for v := range a.watched {
		v.look(a)
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// visitor sends one kind of request to a gateway that knows each change of its routes at once.
type visitor struct {
	host, path string
	header     http.Header
	// met are the shares of the Services one after the other, faults what made requests fail.
	met    []map[string]int
	faults []string
}

// look notes where requests would go, and whether they would fail.
func (v *visitor) look(a *adminAPI) {
	shares, err := a.serves(v)
	if err != nil {
		v.faults = append(v.faults, err.Error())
	}
	if n := len(v.met); shares != nil && (n == 0 || !maps.Equal(v.met[n-1], shares)) {
		v.met = append(v.met, shares)
	}
}

// of returns the shares that one Service had, one after the other.
func (v *visitor) of(service string) (shares []int) {
	for _, met := range v.met {
		shares = append(shares, met[service])
	}
	return slices.Compact(shares)
}

// visit adds a visitor until the function that it returns is called.
func (a *adminAPI) visit(v *visitor) (leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watched[v] = true
	v.look(a)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watched, v)
	}
}

// until waits until the requests of a visitor get to Services as wanted.
func (a *adminAPI) until(ctx context.Context, v *visitor, want map[string]int) error {
	for {
		a.mu.Lock()
		got, err := a.serves(v)
		changed := a.changed
		a.mu.Unlock()
		if err == nil && maps.Equal(got, want) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("requests to %s%s with %v get to %v, %w, want %v", v.host, v.path, v.header, got, err, want)
		}
	}
}

// gatewayRoute and gatewayUpstream are what APISIX chooses by.
type (
	gatewayRoute struct {
		Name       string
		Hosts      []string
		URIs       []string `json:"uris"`
		Priority   int
		Vars       [][]any
		UpstreamID string `json:"upstream_id"`
		Plugins    struct {
			Split *struct {
				Rules []struct {
					Weighted []struct {
						UpstreamID string `json:"upstream_id"`
						Weight     int
					} `json:"weighted_upstreams"`
				}
			} `json:"traffic-split"`
		}
	}
	gatewayUpstream struct {
		Name  string
		Nodes []json.RawMessage
	}
)

// serves returns the share of each Service in the requests of a visitor, nothing if no route is for them. Those that would get
// to no pod are an error.
func (a *adminAPI) serves(v *visitor) (map[string]int, error) {
	var (
		best *gatewayRoute
		rank int
	)
	for id, raw := range a.objects["routes"] {
		route := &gatewayRoute{}
		if err := json.Unmarshal(raw, route); err != nil {
			return nil, fmt.Errorf("route %s: %w", id, err)
		}
		// The path decides, and the priority among routes that have the same one.
		switch fit := route.fits(v); {
		case fit == 0:
		case best == nil || fit > rank || fit == rank && route.Priority > best.Priority:
			best, rank = route, fit
		case fit == rank && route.Priority == best.Priority:
			return nil, fmt.Errorf("routes %s and %s are for the same requests and have the same priority", best.Name, route.Name)
		}
	}
	if best == nil {
		return nil, nil
	}
	weights := map[string]int{best.UpstreamID: 100}
	if split := best.Plugins.Split; split != nil && len(split.Rules) > 0 {
		clear(weights)
		for _, w := range split.Rules[0].Weighted {
			if w.UpstreamID == "" {
				w.UpstreamID = best.UpstreamID
			}
			weights[w.UpstreamID] += w.Weight
		}
	}
	return a.shares(best.Name, weights)
}

func (a *adminAPI) shares(route string, weights map[string]int) (map[string]int, error) {
	shares := map[string]int{}
	for id, weight := range weights {
		if weight == 0 {
			continue
		}
		upstream := &gatewayUpstream{}
		if raw := a.objects["upstreams"][id]; raw == nil || json.Unmarshal(raw, upstream) != nil {
			return shares, fmt.Errorf("route %s sends %d of 100 requests to the upstream %s, which is not there", route, weight, id)
		}
		// The name is <namespace>_<service>_<port>.
		parts := strings.Split(upstream.Name, "_")
		shares[parts[len(parts)-2]] = weight
		if len(upstream.Nodes) == 0 {
			return shares, fmt.Errorf("route %s sends %d of 100 requests to %s, which has no pods", route, weight, upstream.Name)
		}
	}
	return shares, nil
}

// fits is 0 if the route is not for the requests of a visitor, and else greater the more of the path it names.
func (r *gatewayRoute) fits(v *visitor) (rank int) {
	for _, uri := range r.URIs {
		prefix, isPrefix := strings.CutSuffix(uri, "*")
		switch {
		case uri == v.path:
			rank = math.MaxInt
		case isPrefix && strings.HasPrefix(v.path, prefix):
			rank = max(rank, len(uri))
		}
	}
	if !slices.Contains(r.Hosts, v.host) || !r.meets(v) {
		return 0
	}
	return rank
}

func (r *gatewayRoute) meets(v *visitor) bool {
	for _, condition := range r.Vars {
		name, _ := strings.CutPrefix(fmt.Sprint(condition[0]), "http_")
		value := v.header.Get(strings.ReplaceAll(name, "_", "-"))
		want := fmt.Sprint(condition[len(condition)-1])
		switch condition[1] {
		case "==":
			if value != want {
				return false
			}
		case "~~":
			if value == "" || !regexp.MustCompile(want).MatchString(value) {
				return false
			}
		default:
			panic(fmt.Sprintf("route %s: condition %v is not known to this test", r.Name, condition))
		}
	}
	return true
}
