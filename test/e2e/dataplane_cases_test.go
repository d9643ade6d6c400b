package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// slow answers without errors, each after some seconds.
const slow = "stefanprodan/podinfo:6.9.5"

// TestDataPlane is what every data plane is held to: each case sends real requests and looks at who answers them.
func TestDataPlane(tt *testing.T) {
	needsBed(tt)
	plane := planeUnderTest(tt)
	if plane == nil {
		tt.Skip("run make e2e-contour or another of its kind")
	}
	tt.Parallel()
	for _, c := range []struct {
		name string
		live func(*loaded)
		able bool
	}{
		{"shares", sharesOfSteps, true},
		{"shares through trouble", sharesThroughTrouble, true},
		{"whole life", wholeLife, true},
		{"A/B by header", insiders([]v1beta1.AnalysisMatch{byHeader()}, "X-Insider: no", "X-Insider: yes"), plane.able.header},
		{"A/B by cookie", insiders([]v1beta1.AnalysisMatch{byCookie()}, "Cookie: insider=no", "Cookie: a=b; insider=yes; c=d"), plane.able.cookie},
		{"A/B by either", insiders([]v1beta1.AnalysisMatch{byHeader(), byCookie()}, "X-Insider: no", "X-Insider: yes", "Cookie: insider=yes"),
			plane.able.header && plane.able.cookie},
		{"header beside weights", besideWeights, plane.able.beside},
		{"sticky sessions", sticky, plane.able.affinity},
		{"mirror", mirrored(0), plane.able.mirror},
		{"mirror of a share", mirrored(30), plane.able.share},
		{"errors of the canary", failsBy(buggy, "success rate"), true},
		{"slow canary", failsBy(slow, "request duration"), true},
		{"errors of the primary", replacesBad(buggy), true},
		{"slow primary", replacesBad(slow), true},
		{"compared with the primary", comparedWithPrimary, true},
		{"foreign requests", foreignRequests, plane.beside != ""},
		// By the Gateway API the built-in metrics are those of the application, which counts its probes as well.
		{"no requests", unheard, !strings.HasPrefix(plane.provider, v1beta1.GatewayAPIProvider)},
	} {
		if !c.able {
			continue
		}
		tt.Run(c.name, func(tt *testing.T) {
			tt.Parallel()
			l := newLoaded(tt, 1)
			l.begin()
			l.operates()
			c.live(l)
			l.load.end(l)
		})
	}
}

// recordVariable names, in the environment, a folder for what the data plane exports of an analysis: the tests of the built-in
// queries are made of it.
const recordVariable = "RECORD"

// record writes the series that bear the namespace of the team, which becomes the name of the test. A data plane may forget those of
// a canary that gets no requests any more.
func (l *loaded) record() {
	l.Helper()
	dir := os.Getenv(recordVariable)
	if dir == "" {
		return
	}
	name := strings.ReplaceAll(path.Base(l.Name()), "_", "-")
	var all strings.Builder
	for line := range strings.Lines(l.exported()) {
		if strings.Contains(line, l.ns) {
			all.WriteString(strings.ReplaceAll(line, l.ns, name))
		}
	}
	l.must(os.WriteFile(filepath.Join(dir, l.plane.name+"-"+name+".txt"), []byte(all.String()), 0o644))
}

// bodyOf is the body of a page.
func bodyOf(url string) ([]byte, error) {
	response, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

// exported is what the data plane has exported, as text.
func (l *loaded) exported() string {
	l.Helper()
	from := "http://" + l.plane.stats
	if l.plane.stats == "" {
		query := fmt.Sprintf("last_over_time({__name__=~%q, namespace=%q}[1h])", l.plane.metrics, l.ns)
		from = "http://prometheus.monitoring:9090/api/v1/query?query=" + url.QueryEscape(query)
	}
	body, err := bodyOf(from)
	l.must(err)
	if l.plane.stats != "" {
		return string(body)
	}
	var found struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any // The time, and the number as text.
			}
		}
	}
	l.must(json.Unmarshal(body, &found))
	var all strings.Builder
	for _, series := range found.Data.Result {
		var labels []string
		for _, name := range slices.Sorted(maps.Keys(series.Metric)) {
			if name != "__name__" {
				labels = append(labels, fmt.Sprintf("%s=%q", name, series.Metric[name]))
			}
		}
		fmt.Fprintf(&all, "%s{%s} %s\n", series.Metric["__name__"], strings.Join(labels, ","), series.Value[1])
	}
	return all.String()
}

// inSteps takes these weights, each behind a gate, and the promotion behind another one.
func (l *loaded) inSteps(weights ...int32) func(*v1beta1.Canary) {
	ask := l.asks(v1beta1.ConfirmTrafficIncreaseHook, v1beta1.ConfirmPromotionHook)
	return func(c *v1beta1.Canary) {
		a := c.Spec.Analysis
		a.StepWeight, a.MaxWeight, a.StepWeights = 0, 0, weights
		ask(c)
	}
}

// sharesOfSteps measures the share of the canary at each step of a run, and before and after it.
func sharesOfSteps(l *loaded) {
	weights := []int32{10, 30, 50, 80}
	l.onboard(l.inSteps(weights...))
	l.only(versionOf(v1), nil)
	l.roll(v1beta1.CanaryPhaseSucceeded, func() { l.ship(v2) }, func() {
		before := int32(0)
		for _, w := range weights {
			l.upTo(w)
			l.weighs(w)
			l.shares(versionOf(v2), before, w)
			before = w
		}
		l.set(v1beta1.ConfirmPromotionHook, true)
	})
	l.rests(v2)
	l.only(versionOf(v2), nil)
}

// weighs waits for a step.
func (l *loaded) weighs(weight int32) {
	l.Helper()
	l.until(fmt.Sprintf("canary weight %d", weight), func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight == weight })
}

// sharesThroughTrouble does what must not change the share that users see: the operator is killed during a step, and others
// write to its route.
func sharesThroughTrouble(l *loaded) {
	l.onboard(l.inSteps(30, 60))
	l.roll(v1beta1.CanaryPhaseFailed, func() { l.ship(v2) }, func() {
		l.upTo(30)
		l.weighs(30)
		l.shares(versionOf(v2), 0, 30)
		l.o.kill()
		l.keeps(versionOf(v2), 30)
		l.patch(l.plane.route.Resource, l.plane.route.Name, `{"metadata":{"labels":{"example.com/team":"shop"}}}`)
		l.operates()
		l.keeps(versionOf(v2), 30)

		l.patch(l.plane.route.Resource, l.plane.route.Name, l.plane.tampered)
		l.wait(l.plane.route.Resource, l.plane.route.Name, func(*unstructured.Unstructured) bool {
			traffic, err := l.readRoute(l.plane.provider)
			return err == nil && traffic.Canary == 30
		})
		l.moves(versionOf(v2), 100, 30)
		l.keeps(versionOf(v2), 30)
		if c := l.read(); c.Status.CanaryWeight != 30 {
			l.Errorf("weight %d after all that, want 30", c.Status.CanaryWeight)
		}
		l.metric("50")
	})
	l.rests(v1)
	l.only(versionOf(v1), nil)
}

// wholeLife promotes, rolls back and goes away again. The requests of its load count as lost or not.
func wholeLife(l *loaded) {
	l.onboard(revertOnDeletion)
	l.promote(v2)
	l.roll(v1beta1.CanaryPhaseFailed, func() { l.ship(v1) }, func() {
		l.reaches(2)
		l.metric("50")
	})
	l.metric("100")
	l.rests(v2)
	l.ship(v2)
	l.leadToService()
	l.deleteCanary()
	l.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "podinfo")
	l.isGivenBack(v2)
}

func byHeader() v1beta1.AnalysisMatch {
	return v1beta1.AnalysisMatch{Headers: map[string]v1beta1.StringMatch{"x-insider": {Exact: "yes"}}}
}

func byCookie() v1beta1.AnalysisMatch {
	return v1beta1.AnalysisMatch{Headers: map[string]v1beta1.StringMatch{"cookie": {Regex: `^(.*?;)?\s*insider=yes\s*(;.*)?$`}}}
}

// insiders leads requests with one of the headers to the canary, and all others to the primary.
func insiders(match []v1beta1.AnalysisMatch, outsider string, insiders ...string) func(*loaded) {
	return func(l *loaded) {
		l.onboard(l.asks(v1beta1.ConfirmPromotionHook), func(c *v1beta1.Canary) {
			a := c.Spec.Analysis
			a.StepWeight, a.MaxWeight, a.Iterations, a.Match = 0, 0, 2, match
		})
		all := func(check func(version string, header http.Header), version string) {
			for _, insider := range insiders {
				check(version, headers(insider))
			}
		}
		all(l.only, versionOf(v1))
		l.roll(v1beta1.CanaryPhaseSucceeded, func() { l.ship(v2) }, func() {
			all(l.comesOnly, versionOf(v2))
			l.enters(v1beta1.CanaryPhaseWaitingPromotion)
			all(l.only, versionOf(v2))
			l.only(versionOf(v1), headers(outsider))
			l.only(versionOf(v1), nil)
			l.set(v1beta1.ConfirmPromotionHook, true)
		})
		l.rests(v2)
		all(l.only, versionOf(v2))
		l.only(versionOf(v2), nil)
	}
}

// besideWeights leads requests with a header to the canary from its first step on, while the others are shared out.
func besideWeights(l *loaded) {
	insider := headers("X-Insider: yes")
	l.onboard(l.inSteps(30, 60), func(c *v1beta1.Canary) {
		c.Spec.Analysis.CanaryMatch = []v1beta1.AnalysisMatch{byHeader()}
	})
	l.only(versionOf(v1), insider)
	l.roll(v1beta1.CanaryPhaseFailed, func() { l.ship(v2) }, func() {
		before := int32(0)
		for _, w := range []int32{30, 60} {
			l.upTo(w)
			l.weighs(w)
			l.shares(versionOf(v2), before, w)
			l.comesOnly(versionOf(v2), insider)
			before = w
		}
		l.metric("50")
	})
	l.rests(v1)
	l.only(versionOf(v1), insider)
}

// client keeps cookies as a browser does that is not told to forget them.
type client struct {
	cookies map[string]string
	// pinned is the version that a cookie came with.
	pinned string
}

// asks sends a request with the cookies and keeps those of the answer.
func (b *client) asks(l *loaded, client *http.Client) string {
	l.Helper()
	header := http.Header{}
	if len(b.cookies) > 0 {
		var pairs []string
		for _, name := range slices.Sorted(maps.Keys(b.cookies)) {
			pairs = append(pairs, name+"="+b.cookies[name])
		}
		header.Set("Cookie", strings.Join(pairs, "; "))
	}
	from, err := fetch(client, "http://"+l.plane.address+"/version", l.host, header)
	l.must(err)
	for _, line := range from.header.Values("Set-Cookie") {
		cookie, err := http.ParseSetCookie(line)
		l.must(err)
		if cookie.MaxAge < 0 {
			delete(b.cookies, cookie.Name)
		} else {
			b.cookies[cookie.Name] = cookie.Value
			b.pinned = from.version
		}
	}
	return from.version
}

// sticky checks that clients which were led to the canary once stay there from step to step, and come back when it is taken
// back.
func sticky(l *loaded) {
	l.onboard(l.inSteps(20, 40, 60), func(c *v1beta1.Canary) {
		c.Spec.Analysis.SessionAffinity = &v1beta1.SessionAffinity{CookieName: "version", MaxAge: 3600}
	})
	kept := &http.Client{Timeout: patience}
	defer kept.CloseIdleConnections()
	clients := make([]client, 100)
	for i := range clients {
		clients[i].cookies = map[string]string{}
	}
	ask := func(what string) (pinned int) {
		for range 10 {
			for i := range clients {
				before := clients[i].pinned
				if got := clients[i].asks(l, kept); before != "" && got != before {
					l.Errorf("%s: a client of %s is answered by %s", what, before, got)
				}
			}
		}
		for i := range clients {
			if clients[i].pinned == versionOf(v2) {
				pinned++
			}
		}
		return pinned
	}
	l.roll(v1beta1.CanaryPhaseFailed, func() { l.ship(v2) }, func() {
		before := int32(0)
		for _, w := range []int32{20, 40, 60} {
			l.upTo(w)
			l.weighs(w)
			l.moves(versionOf(v2), before, w)
			// Of 1,000 requests at 20 % none going to the canary has a chance of 10^-97.
			if n := ask(fmt.Sprintf("weight %d", w)); n == 0 {
				l.Errorf("no client is pinned to the canary at weight %d", w)
			}
			before = w
		}
		l.metric("50")
	})
	l.rests(v1)
	for i := range clients {
		clients[i].pinned = ""
		if got := clients[i].asks(l, kept); got != versionOf(v1) {
			l.Errorf("after the rollback a client is answered by %s", got)
		}
	}
}

// mirrored copies a percentage of the requests, 0 for all, to the canary before it gets any of its own. Each comes once, and the
// primary answers.
func mirrored(percent int32) func(*loaded) {
	return func(l *loaded) {
		l.onboard(l.inSteps(50), func(c *v1beta1.Canary) {
			c.Spec.Analysis.Mirror, c.Spec.Analysis.MirrorWeight = true, percent
		})
		l.roll(v1beta1.CanaryPhaseSucceeded, func() { l.ship(v2) }, func() {
			copying := func(c *v1beta1.Canary) bool { return c.Status.Rollout != nil && c.Status.Rollout.Mirror }
			l.when(v1beta1.ConfirmTrafficIncreaseHook, func(c *v1beta1.Canary) bool { return !copying(c) && c.Status.CanaryWeight == 0 })
			l.until("mirroring", copying)
			l.copies(percent)
			l.upTo(100)
			l.set(v1beta1.ConfirmPromotionHook, true)
		})
		l.rests(v2)
	}
}

// copies counts what arrives at the canary of requests that the primary answers.
func (l *loaded) copies(percent int32) {
	l.Helper()
	// All proxies have the route when requests of the load have been copied for a while.
	l.arrive("version", 50)
	sent := 0
	// What comes twice is late, maybe, but it is there when all of the second round is.
	for range 2 {
		got := l.tallyOf("/api/info", fair/2, nil)
		sent += fair / 2
		if got[versionOf(v1)] != fair/2 {
			l.Errorf("requests that are mirrored are answered by %v", got)
		}
		if percent == 0 {
			l.arrive("api_info", sent)
		} else {
			l.arrive("api_info", sent*int(percent-leeway)/100)
		}
	}
	arrived := l.arrived("api_info")
	l.Logf("%d of %d requests were mirrored", arrived, sent)
	if percent == 0 && arrived != sent || percent > 0 && arrived > sent*int(percent+leeway)/100 {
		l.Errorf("%d copies of %d requests arrived at the canary, want %d %%", arrived, sent, percent)
	}
}

// arrive waits until the canary has counted a number of requests of a path.
func (l *loaded) arrive(path string, n int) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), patience)
	defer cancel()
	for got := 0; got < n; got = l.arrived(path) {
		if ctx.Err() != nil {
			l.Fatalf("%d requests for %s arrived at the canary, want %d", got, path, n)
		}
	}
}

// arrived is how many requests of a path the pods of the canary have counted. A path is named as in their metrics.
func (l *loaded) arrived(path string) (n int) {
	l.Helper()
	list, err := l.kube.CoreV1().Pods(l.ns).List(l.Context(), metav1.ListOptions{LabelSelector: "app=podinfo"})
	l.must(err)
	for i := range list.Items {
		// One that goes was there before the canary, and serves no more.
		if list.Items[i].DeletionTimestamp != nil {
			continue
		}
		response, err := http.Get("http://" + list.Items[i].Status.PodIP + ":9898/metrics")
		l.must(err)
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			series, value, _ := strings.Cut(lines.Text(), "} ")
			if strings.HasPrefix(series, "http_request_duration_seconds_count{") && strings.Contains(series, fmt.Sprintf("path=%q", path)) {
				count, err := strconv.Atoi(value)
				l.must(err)
				n += count
			}
		}
		l.must(response.Body.Close())
	}
	return n
}

// builtIn judges by the built-in metrics, over few seconds. What is slow is so by a multiple of the limit, and what is not is far
// from it on a busy machine as well.
func builtIn(s *v1beta1.CanarySpec) {
	least, most := 99.0, 2000.0
	s.Analysis.Threshold = 10
	s.Analysis.Metrics = []v1beta1.CanaryMetric{
		{Name: "request-success-rate", Interval: "10s", ThresholdRange: &v1beta1.CanaryThresholdRange{Min: &least}},
		{Name: "request-duration", Interval: "10s", ThresholdRange: &v1beta1.CanaryThresholdRange{Max: &most}},
	}
}

// judged ships an image that the built-in metrics judge from a step on in which it has answered for a while: a canary whose
// series are not there yet is one without traffic.
func (l *loaded) judged(image string, end v1beta1.CanaryPhase) {
	l.Helper()
	l.roll(end, func() { l.ship(image) }, func() {
		l.upTo(30)
		l.weighs(30)
		l.load.until(l.team, "answers of the canary", func(answers []answer) bool {
			n := 0
			for _, a := range answers {
				if a.version == versionOf(image) {
					n++
				}
			}
			return n >= 50
		})
		l.record()
		l.edit(builtIn)
		l.upTo(100)
		l.set(v1beta1.ConfirmPromotionHook, true)
	})
}

// failsBy ships what the built-in metrics must take back, from the series of the data plane itself.
func failsBy(image, metric string) func(*loaded) {
	return func(l *loaded) {
		r := l.receiver()
		l.onboard(l.inSteps(30, 60), r.hears, func(c *v1beta1.Canary) { c.Spec.Analysis.Alerts[0].Severity = v1beta1.SeverityError })
		l.judged(image, v1beta1.CanaryPhaseFailed)
		l.rests(v1)
		r.heard("error: Failed checks threshold reached 10")
		if told := l.events(); count(told, "advancement "+metric) == 0 {
			l.Errorf("no check failed by the %s:\n%s", metric, strings.Join(told, "\n"))
		}
	}
}

// replacesBad promotes a good version while the primary is one that the metrics would take back.
func replacesBad(image string) func(*loaded) {
	return func(l *loaded) {
		l.onboard(l.inSteps(30, 60), func(c *v1beta1.Canary) { c.Spec.SkipAnalysis = true })
		l.promote(image)
		l.edit(func(s *v1beta1.CanarySpec) { s.SkipAnalysis = false })
		l.judged(v2, v1beta1.CanaryPhaseSucceeded)
		l.rests(v2)
		told := l.events()
		for _, metric := range []string{"success rate", "request duration"} {
			if count(told, "advancement "+metric) > 0 {
				l.Errorf("the primary halts the canary by its %s:\n%s", metric, strings.Join(told, "\n"))
			}
		}
	}
}

// unheard ships what nobody asks, although routes lead requests to it: that is told as what it is.
func unheard(l *loaded) {
	l.onboard(func(c *v1beta1.Canary) { builtIn(&c.Spec) })
	l.load.goOn(l.team, 100)
	l.load.end(l)
	l.roll(v1beta1.CanaryPhaseFailed, func() { l.ship(v2) }, func() {
		l.until("word of missing requests", func(c *v1beta1.Canary) bool {
			h := healthy(c)
			return c.Status.CanaryWeight > 0 && h != nil && h.Reason == "NoCanaryTraffic"
		})
	})
	l.load = l.loadTo(l.plane.address, l.host)
	l.rests(v1)
	l.load.goOn(l.team, 100)
}
