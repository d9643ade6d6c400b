package notify

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/outbound"
)

var update = flag.Bool("update", false, "write the golden payloads")

// room is a chat room that keeps what is posted.
type room struct {
	*httptest.Server
	mu    sync.Mutex
	posts []post
}

type post struct {
	path   string
	header http.Header
	body   []byte
}

func newRoom(t *testing.T, answer http.HandlerFunc) *room {
	t.Helper()
	r := &room{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.posts = append(r.posts, post{req.URL.String(), req.Header, body})
		r.mu.Unlock()
		answer(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *room) got() []post {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.posts)
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// instant is a clock whose timers fire at once.
type instant struct{ clock.RealClock }

func (instant) NewTimer(time.Duration) clock.Timer { return clock.RealClock{}.NewTimer(0) }

func sender() *Sender { return &Sender{Transports: outbound.NewTransports(instant{})} }

func sample(severity v1beta1.AlertSeverity) Alert {
	return Alert{
		Namespace: "test", Name: "podinfo", Severity: severity, Message: "Failed checks threshold <5> reached",
		Fields: []Field{{"Cluster", "prod-1"}, {"Traffic routing", "Weight step: 10 max: 50"}},
		Key:    "uid/7", Time: time.Date(2026, 11, 29, 12, 0, 0, 0, time.FixedZone("", 3600)),
	}
}

// Each type sends what its service documents.
func TestGoldenPayloads(t *testing.T) {
	for _, name := range Types() {
		for _, severity := range []v1beta1.AlertSeverity{v1beta1.SeverityInfo, v1beta1.SeverityError} {
			t.Run(name+"-"+string(severity), func(t *testing.T) {
				r := newRoom(t, says(200, "ok"))
				if err := sender().Send(t.Context(), Receiver{Type: name, Address: r.URL + "/hook/T0"}, sample(severity)); err != nil {
					t.Fatal(err)
				}
				golden(t, name+"-"+string(severity), r.got()[0])
			})
		}
	}
	card, err := json.Marshal(adaptiveCard(sample(v1beta1.SeverityWarn)))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "msteams-workflow", post{path: "/workflows/1", body: card})
}

func golden(t *testing.T, name string, p post) {
	t.Helper()
	var text bytes.Buffer
	text.WriteString(p.path + "\n")
	if err := json.Indent(&text, p.body, "", "  "); err != nil {
		t.Fatal(err)
	}
	text.WriteString("\n")
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Error(diff)
	}
}

func TestAddresses(t *testing.T) {
	r := newRoom(t, says(204, ""))
	for name, paths := range map[string][2]string{
		"discord":      {"/api/webhooks/1", "/api/webhooks/1/slack"},
		"alertmanager": {"/am", "/am/api/v2/alerts"},
		"slack":        {"/services/T0?x=1", "/services/T0?x=1"},
	} {
		for _, address := range []string{paths[0], paths[1]} {
			if err := sender().Send(t.Context(), Receiver{Type: name, Address: r.URL + address}, sample(v1beta1.SeverityInfo)); err != nil {
				t.Fatal(err)
			}
			if posts := r.got(); posts[len(posts)-1].path != paths[1] {
				t.Errorf("%s: posted to %s, want %s", name, posts[len(posts)-1].path, paths[1])
			}
		}
	}
	for address, workflow := range map[string]bool{
		"https://acme.webhook.office.com/webhookb2/1":                              false,
		"https://prod-1.westeurope.logic.azure.com/workflows/1":                    true,
		"https://default1.environment.api.powerplatform.com/powerautomate/1?sig=2": true,
		"https://logic.azure.com.evil.example/1":                                   false,
	} {
		m, err := Receiver{Type: "msteams", Address: address}.message(sample(v1beta1.SeverityInfo))
		if err != nil {
			t.Fatal(err)
		}
		if _, connector := m.body.(teamsCard); connector == workflow {
			t.Errorf("%s: connector %v", address, connector)
		}
	}
}

func TestTokens(t *testing.T) {
	r := newRoom(t, says(200, `{"ok":true}`))
	for _, name := range []string{"slack", "alertmanager", "webhook", "rocket"} {
		if err := sender().Send(t.Context(), Receiver{Type: name, Address: r.URL, Token: "xoxb-secret"}, sample(v1beta1.SeverityInfo)); err != nil {
			t.Fatal(err)
		}
	}
	posts := r.got()
	if posts[0].header.Get("Authorization") != "Bearer xoxb-secret" || posts[1].header.Get("Authorization") != "Bearer xoxb-secret" {
		t.Errorf("got %v and %v", posts[0].header, posts[1].header)
	}
	mac := hmac.New(sha256.New, []byte("xoxb-secret"))
	mac.Write(posts[2].body)
	if sum := posts[2].header.Get(HeaderSignature); sum != fmt.Sprintf("sha256=%x", mac.Sum(nil)) || posts[2].header.Get("Authorization") != "" {
		t.Errorf("signature %q", sum)
	}
	if posts[3].header.Get("Authorization") != "" {
		t.Error("a type without tokens got one")
	}
	for _, p := range posts {
		if p.header.Get(HeaderIdempotencyKey) != "uid/7" || p.header.Get("Content-Type") != "application/json" {
			t.Errorf("headers %v", p.header)
		}
	}
	refusing := newRoom(t, says(200, `{"ok":false,"error":"channel_not_found"}`))
	err := sender().Send(t.Context(), Receiver{Type: "slack", Address: refusing.URL, Token: "xoxb-secret"}, sample(v1beta1.SeverityInfo))
	if err == nil || !strings.Contains(err.Error(), "channel_not_found") {
		t.Errorf("a bot was refused: %v", err)
	}
}

func TestFailures(t *testing.T) {
	const secret = "T0SECRET"
	gone := newRoom(t, says(200, ""))
	gone.Close()
	for name, tc := range map[string]struct {
		receiver Receiver
		says     string
	}{
		"refused":      {Receiver{Type: "slack", Address: newRoom(t, says(403, "no_service for "+secret)).URL + "/" + secret, Token: secret}, "answered 403 Forbidden: no_service for ***"},
		"no text":      {Receiver{Type: "gchat", Address: newRoom(t, says(404, "")).URL + "/" + secret}, "answered 404 Not Found"},
		"gone":         {Receiver{Type: "msteams", Address: gone.URL + "/" + secret}, "connection refused"},
		"no address":   {Receiver{Type: "slack"}, "address is empty"},
		"no URL":       {Receiver{Type: "slack", Address: "x" + secret}, "address is not a URL"},
		"short":        {Receiver{Type: "slack", Address: "h"}, "address is not a URL"},
		"unknown type": {Receiver{Type: "pager", Address: "http://x"}, "alertmanager, discord"},
		"proxy":        {Receiver{Type: "slack", Address: "http://x", Proxy: "proxy:3128"}, "proxy is not a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			err := sender().Send(t.Context(), tc.receiver, sample(v1beta1.SeverityInfo))
			if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), secret) || len(err.Error()) > 600 {
				t.Errorf("got %v, want %q and no secret", err, tc.says)
			}
		})
	}
}

func TestBusyReceiverIsAskedAgain(t *testing.T) {
	left := 2
	r := newRoom(t, func(w http.ResponseWriter, _ *http.Request) {
		if left--; left >= 0 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	if err := sender().Send(t.Context(), Receiver{Type: "slack", Address: r.URL}, sample(v1beta1.SeverityInfo)); err != nil {
		t.Fatal(err)
	}
	posts := r.got()
	if len(posts) != 3 || !bytes.Equal(posts[0].body, posts[2].body) {
		t.Errorf("posted %d times", len(posts))
	}
}

func TestProxyLeadsToTheReceiver(t *testing.T) {
	proxy := newRoom(t, says(200, ""))
	if err := sender().Send(t.Context(), Receiver{Type: "slack", Address: "http://chat.example/hook", Proxy: proxy.URL}, sample(v1beta1.SeverityInfo)); err != nil {
		t.Fatal(err)
	}
	if posts := proxy.got(); len(posts) != 1 || posts[0].path != "http://chat.example/hook" {
		t.Errorf("the proxy got %v", posts)
	}
}

// Whoever may write an AlertProvider chooses its address, and that of its proxy.
func TestLinkLocalAddressesAreRefused(t *testing.T) {
	for name, r := range map[string]Receiver{
		"address": {Type: "webhook", Address: "http://169.254.169.254/latest/meta-data"},
		"IPv6":    {Type: "webhook", Address: "http://[fd00:ec2::254]/latest"},
		"proxy":   {Type: "webhook", Address: "http://alerts.test/", Proxy: "http://169.254.169.254"},
	} {
		if err := sender().Send(t.Context(), r, sample(v1beta1.SeverityInfo)); !errors.Is(err, outbound.ErrLinkLocal) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// slackRoom answers a bot as Slack does, with what each message is called. Answers to the message called deleted are refused.
func slackRoom(t *testing.T, deleted string) (*room, func() []slackMessage) {
	t.Helper()
	var n atomic.Int64
	var r *room
	r = newRoom(t, func(w http.ResponseWriter, _ *http.Request) {
		posts := r.got()
		var m slackMessage
		_ = json.Unmarshal(posts[len(posts)-1].body, &m)
		if deleted != "" && m.ThreadTS == deleted {
			_, _ = io.WriteString(w, `{"ok":false,"error":"cannot_reply_to_message"}`)
			return
		}
		_, _ = fmt.Fprintf(w, `{"ok":true,"channel":"C1","ts":"%d.0","message":{}}`, n.Add(1))
	})
	return r, func() []slackMessage {
		posts := r.got()
		messages := make([]slackMessage, len(posts))
		for i := range posts {
			if err := json.Unmarshal(posts[i].body, &messages[i]); err != nil {
				t.Fatal(err)
			}
		}
		return messages
	}
}

// What is told of one revision is one thread, and what fails is seen in the channel as well.
func TestThreads(t *testing.T) {
	r, posted := slackRoom(t, "")
	s, bot := sender(), Receiver{Type: "slack", Address: r.URL, Token: "t", Channel: "releases"}
	s.Threads = NewThreads()
	other := bot
	other.Channel = "others"
	anybody := bot
	anybody.Token = ""
	for _, step := range []struct {
		to       Receiver
		rollout  string
		severity v1beta1.AlertSeverity
		want     string
		seen     bool
	}{
		{bot, "v2", v1beta1.SeverityInfo, "", false},
		{bot, "v2", v1beta1.SeverityWarn, "1.0", false},
		{other, "v2", v1beta1.SeverityError, "", false},
		{bot, "v2", v1beta1.SeverityError, "1.0", true},
		{bot, "v3", v1beta1.SeverityInfo, "", false},
		{bot, "v3", v1beta1.SeverityInfo, "5.0", false},
		{anybody, "v3", v1beta1.SeverityInfo, "", false},
		{bot, "", v1beta1.SeverityInfo, "", false},
	} {
		a := sample(step.severity)
		a.Rollout = step.rollout
		if err := s.Send(t.Context(), step.to, a); err != nil {
			t.Fatal(err)
		}
		all := posted()
		if m := all[len(all)-1]; m.ThreadTS != step.want || m.ReplyBroadcast != step.seen {
			t.Errorf("message %d to %s about %q answers %q, shown %t, want %q, %t",
				len(all), step.to.Channel, step.rollout, m.ThreadTS, m.ReplyBroadcast, step.want, step.seen)
		}
	}
}

// An alert whose thread is gone is a message of its own, and the next ones answer that.
func TestThreadThatIsGone(t *testing.T) {
	r, posted := slackRoom(t, "1.0")
	s := sender()
	s.Threads = NewThreads()
	a := sample(v1beta1.SeverityInfo)
	a.Rollout = "v2"
	for range 3 {
		if err := s.Send(t.Context(), Receiver{Type: "slack", Address: r.URL, Token: "t"}, a); err != nil {
			t.Fatal(err)
		}
	}
	var answered []string
	for _, m := range posted() {
		answered = append(answered, m.ThreadTS)
	}
	if want := []string{"", "1.0", "", "2.0"}; !slices.Equal(answered, want) {
		t.Errorf("messages answer %q, want %q", answered, want)
	}
}
