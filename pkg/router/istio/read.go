package istio

import (
	"fmt"

	networking "istio.io/api/networking/v1beta1"
	istiov1beta1 "istio.io/client-go/pkg/apis/networking/v1beta1"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
)

// Read takes the traffic from the last route that leads to the canary: those before it only pin clients.
func (p *Provider) Read(c *v1beta1.Canary, live router.Live) (router.Observed, error) {
	ref := virtualService(c.Namespace, router.NamesOf(c).Apex)
	o, err := router.MustGet(live, ref)
	if err != nil {
		return router.Observed{}, err
	}
	service := &istiov1beta1.VirtualService{}
	if err := router.Decode(o.Object, service); err != nil {
		return router.Observed{}, fmt.Errorf("%s %w: %w", ref, router.ErrUnreadable, err)
	}
	read := readHTTP
	if router.IsTCP(c) {
		read = readTCP
	}
	traffic, err := read(c, ref, &service.Spec)
	return router.Observed{Traffic: traffic, Settled: true}, err
}

func readHTTP(c *v1beta1.Canary, ref router.Ref, spec *networking.VirtualService) (router.Traffic, error) {
	names := router.NamesOf(c)
	for i := len(spec.Http) - 1; i >= 0; i-- {
		route := spec.Http[i]
		primary, canary := findHTTP(route, names.Primary), findHTTP(route, names.Canary)
		if canary == nil {
			continue
		}
		t, err := router.Split(ref, int64(primary.GetWeight()), int64(canary.GetWeight()))
		if err != nil {
			return t, err
		}
		t.Mirror = route.GetMirror().GetHost() == names.Canary
		// What follows is for the primary alone.
		t.Matched = i < len(spec.Http)-1
		if router.AffinityOf(c, t) != nil {
			t.Cookies = router.Cookies{
				Canary:   findCookie(canary.GetHeaders(), false),
				Primary:  findCookie(primary.GetHeaders(), false),
				Previous: findCookie(spec.Http[0].GetHeaders(), true),
			}
		}
		return t, nil
	}
	return router.Traffic{}, fmt.Errorf("%s %w: no http route leads to %s", ref, router.ErrUnreadable, names.Canary)
}

func findHTTP(route *networking.HTTPRoute, host string) *networking.HTTPRouteDestination {
	for _, destination := range route.GetRoute() {
		if destination.GetDestination().GetHost() == host {
			return destination
		}
	}
	return nil
}

// findCookie returns the cookie that an answer gets, one that is dropped or one that is set.
func findCookie(headers *networking.Headers, dropped bool) string {
	header := headers.GetResponse().GetAdd()["Set-Cookie"]
	cookie, drop := router.CookieOf(header)
	if drop != dropped {
		return ""
	}
	return cookie
}

func readTCP(c *v1beta1.Canary, ref router.Ref, spec *networking.VirtualService) (router.Traffic, error) {
	names := router.NamesOf(c)
	for i := len(spec.Tcp) - 1; i >= 0; i-- {
		weights := map[string]int64{}
		for _, destination := range spec.Tcp[i].GetRoute() {
			weights[destination.GetDestination().GetHost()] += int64(destination.GetWeight())
		}
		if _, ok := weights[names.Canary]; ok {
			return router.Split(ref, weights[names.Primary], weights[names.Canary])
		}
	}
	return router.Traffic{}, fmt.Errorf("%s %w: no tcp route leads to %s", ref, router.ErrUnreadable, names.Canary)
}
