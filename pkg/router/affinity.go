package router

import (
	"fmt"
	"regexp"
	"strings"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// defaultMaxAge is how long a browser keeps the canary cookie, in seconds, if sessionAffinity.maxAge is 0.
const defaultMaxAge = 86400

// Affinity renders the cookies of session affinity. The values come from the status, where they are kept before any route
// carries them.
type Affinity struct {
	settings v1beta1.SessionAffinity
	interval int64
	cookies  Cookies
}

// AffinityOf returns the session affinity of a Canary with these cookies, nil where the Canary asks for none.
//
// An A/B test picks the side of a request by its match alone, so affinity has no part in it.
func AffinityOf(c *v1beta1.Canary, t Traffic) *Affinity {
	analysis := c.GetAnalysis()
	if analysis.SessionAffinity == nil || t.Matched {
		return nil
	}
	return &Affinity{
		settings: *analysis.SessionAffinity,
		interval: int64(analysisInterval(c).Seconds()),
		cookies:  t.InForce().Cookies,
	}
}

// InForce returns the traffic without the cookies that no route carries: while the canary has a weight, clients are pinned
// to a side; when it has none, they are told to drop the cookie of the run before.
func (t Traffic) InForce() Traffic {
	if t.Canary > 0 {
		t.Cookies.Previous = ""
	} else {
		t.Cookies = Cookies{Previous: t.Cookies.Previous}
	}
	return t
}

// Pinned tells whether clients get cookies that pin them to a side.
func (a *Affinity) Pinned() bool { return a != nil && a.cookies.Canary != "" }

// PrimaryPinned tells whether clients of the primary get a cookie of their own.
func (a *Affinity) PrimaryPinned() bool {
	return a.Pinned() && a.settings.PrimaryCookieName != "" && a.cookies.Primary != ""
}

// Dropping tells whether clients are told to drop the cookie of the run before.
func (a *Affinity) Dropping() bool { return a != nil && a.cookies.Previous != "" }

// SetCanary is the Set-Cookie header of answers of the canary.
func (a *Affinity) SetCanary() string {
	age := int64(a.settings.MaxAge)
	if age == 0 {
		age = defaultMaxAge
	}
	return a.header(a.cookies.Canary, age)
}

// SetPrimary is the Set-Cookie header of answers of the primary. It lasts for one analysis step, after which the client is
// free to go to the canary.
func (a *Affinity) SetPrimary() string { return a.header(a.cookies.Primary, a.interval) }

// Drop is the Set-Cookie header that makes a client forget the cookie of the run before. Browsers identify a cookie by its
// domain and path too, so those are named again.
func (a *Affinity) Drop() string { return a.header(a.cookies.Previous, -1) }

// header formats a Set-Cookie header. The order of the attributes is part of the contract.
func (a *Affinity) header(cookie string, maxAge int64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; Max-Age=%d", cookie, maxAge)
	add := func(set bool, attribute string) {
		if set {
			b.WriteString("; " + attribute)
		}
	}
	s := a.settings
	add(s.Domain != "", "Domain="+s.Domain)
	add(s.HttpOnly, "HttpOnly")
	add(s.Partitioned, "Partitioned")
	add(s.Path != "", "Path="+s.Path)
	add(s.SameSite != "", "SameSite="+s.SameSite)
	add(s.Secure, "Secure")
	return b.String()
}

// CanaryPattern is a regular expression for the Cookie header of clients that are pinned to the canary.
func (a *Affinity) CanaryPattern() string { return cookiePattern(a.cookies.Canary) }

// PrimaryPattern is the same for the primary.
func (a *Affinity) PrimaryPattern() string { return cookiePattern(a.cookies.Primary) }

// PreviousPattern is the same for the canary of the run before.
func (a *Affinity) PreviousPattern() string { return cookiePattern(a.cookies.Previous) }

func cookiePattern(cookie string) string {
	name, value := cookie, ""
	if at := strings.LastIndex(cookie, "="); at >= 0 {
		name, value = cookie[:at], cookie[at+1:]
	}
	return ".*" + regexp.QuoteMeta(name) + ".*" + regexp.QuoteMeta(value) + ".*"
}

// CookieOf returns the "name=value" of a Set-Cookie header, and whether the header makes clients drop it.
func CookieOf(header string) (cookie string, drop bool) {
	cookie, attributes, _ := strings.Cut(header, ";")
	return cookie, strings.Contains(attributes, "Max-Age=-1")
}
