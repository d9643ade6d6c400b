package rollout

// settleCookies puts the session cookies of the next step into the status, before any route carries them (contract section
// 3.13). The canary's lasts for the run, so that a client stays where it is; the primary's is renewed with every step, so
// that each increase reaches clients of the primary.
func (p *pass) settleCookies() {
	affinity := p.a.SessionAffinity
	if affinity == nil {
		p.next.SessionAffinityCookie, p.next.PrimarySessionAffinityCookie, p.next.PreviousSessionAffinityCookie = "", "", ""
		return
	}
	if p.next.CanaryWeight == 0 {
		if p.next.SessionAffinityCookie != "" {
			p.next.PreviousSessionAffinityCookie = p.next.SessionAffinityCookie
		}
		p.next.SessionAffinityCookie, p.next.PrimarySessionAffinityCookie = "", ""
		return
	}
	if p.next.SessionAffinityCookie == "" {
		p.next.SessionAffinityCookie = affinity.CookieName + "=" + p.f.Nonces[0]
	}
	stepped := p.next.CanaryWeight != p.c.Status.CanaryWeight
	switch {
	case affinity.PrimaryCookieName == "":
		p.next.PrimarySessionAffinityCookie = ""
	case stepped || p.next.PrimarySessionAffinityCookie == "":
		p.next.PrimarySessionAffinityCookie = affinity.PrimaryCookieName + "=" + p.f.Nonces[1]
	}
}
