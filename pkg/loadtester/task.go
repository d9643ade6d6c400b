package loadtester

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"go.uber.org/zap"

	"flagger.app/flagger/pkg/hook"
)

// maxPayload is the most that is read of a payload, in bytes.
const maxPayload = 1 << 20

// Keys of the metadata of a task.
const (
	keyType         = "type"
	keyCommand      = "cmd"
	keyLogOutput    = "logCmdOutput"
	keyReturnOutput = "returnCmdOutput"
)

// kind is a type of tasks.
type kind struct {
	name string
	// blocking is whether the answer is the result. Otherwise nobody judges it.
	blocking bool
	// prepare checks the metadata of a payload and says what to do.
	prepare func(t *Tester, p hook.Payload) (job, error)
}

// kinds are all types of tasks.
func kinds() []kind {
	return []kind{
		{"cmd", false, prepareCommand},
		{"bash", true, prepareBash},
		{"helm", true, prepareTool("helm")},
		{"helmv3", true, prepareTool("helm")},
		{"kubectl", true, prepareTool("kubectl")},
		{"concord", true, prepareConcord},
		{"ngrinder", false, prepareNGrinder},
	}
}

// Types are the names of the types of tasks. A task without a type is the first of them.
func Types() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

// forbiddenError is the error of a task that may not run.
type forbiddenError struct{ text string }

func (f *forbiddenError) Error() string { return f.text }

// task runs what a payload asks for.
func (t *Tester) task(w http.ResponseWriter, r *http.Request) {
	if !changing(w, r) {
		return
	}
	p, ok := t.payload(w, r)
	if !ok {
		return
	}
	if len(p.Metadata) == 0 {
		t.refuse(w, p, "", errors.New("metadata not found in payload"))
		return
	}
	k, err := kindOf(p.Metadata[keyType])
	if err != nil {
		t.refuse(w, p, "", err)
		return
	}
	j, err := k.prepare(t, p)
	if err != nil {
		t.refuse(w, p, k.name, err)
		return
	}
	j.canary, j.kind = p.Name+"."+p.Namespace, k.name
	j.key = strings.Join([]string{j.canary, k.name, j.text}, "\n")
	if k.blocking {
		// The result is about a revision, and no answer to a question about another one.
		j.key += "\n" + p.Checksum
		j.logOutput = true
		t.judge(w, r, j, p.Metadata[keyReturnOutput] == "true")
		return
	}
	j.logOutput = p.Metadata[keyLogOutput] == "true"
	t.accept(w, j)
}

func kindOf(name string) (kind, error) {
	if name == "" {
		return kinds()[0], nil
	}
	for _, k := range kinds() {
		if k.name == name {
			return k, nil
		}
	}
	return kind{}, fmt.Errorf("unknown task type %q: set metadata.type to one of %s", name, strings.Join(Types(), ", "))
}

// payload reads the payload of a request, and checks its namespace.
func (t *Tester) payload(w http.ResponseWriter, r *http.Request) (hook.Payload, bool) {
	var p hook.Payload
	// The server notices that a caller leaves once the whole body is read.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
	if err == nil {
		err = json.Unmarshal(body, &p)
	}
	if err != nil {
		answer(w, http.StatusBadRequest, "the body is not the payload of a webhook: "+err.Error())
		return p, false
	}
	if allowed := t.options.Namespaces; allowed != nil && !allowed.MatchString(p.Namespace) {
		answer(w, http.StatusForbidden, "Forbidden")
		return p, false
	}
	return p, true
}

func (t *Tester) refuse(w http.ResponseWriter, p hook.Payload, kind string, err error) {
	if kind == "" {
		kind = "unknown"
	}
	t.metrics.count(kind, refused)
	t.options.Log.Warn("task refused", zap.String("canary", p.Name+"."+p.Namespace), zap.String("type", kind), zap.Error(err))
	status := http.StatusBadRequest
	var forbidden *forbiddenError
	if errors.As(err, &forbidden) {
		status = http.StatusForbidden
	}
	answer(w, status, err.Error())
}

// accept starts a task that nobody judges.
func (t *Tester) accept(w http.ResponseWriter, j job) {
	before, err := t.runs.background(j)
	switch {
	case err != nil:
		t.metrics.count(j.kind, refused)
		w.Header().Set("Retry-After", "5")
		answer(w, http.StatusTooManyRequests, fmt.Sprintf("%v: -max-commands is %d", err, t.options.MaxCommands))
	case before != nil:
		t.metrics.count(j.kind, skipped)
		since := before.began.UTC().Format(time.RFC3339)
		t.options.Log.Info("command is running already", zap.String("canary", j.canary), zap.String("type", j.kind), zap.String("command", j.text), zap.String("since", since))
		answer(w, http.StatusAccepted, "skipped: the same command of this Canary has been running since "+since)
	default:
		answer(w, http.StatusAccepted, "accepted, the result is not judged")
	}
}

// judge answers with the result of a task.
func (t *Tester) judge(w http.ResponseWriter, r *http.Request, j job, returnOutput bool) {
	// A test may take longer than the server gives other answers.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	begun := t.runs.blocking(j)
	if !waitFor(r.Context(), begun) {
		// The task goes on: whoever asks again about the same revision gets its result.
		t.options.Log.Info("caller left", zap.String("canary", j.canary), zap.String("type", j.kind), zap.String("command", j.text))
		return
	}
	switch {
	case begun.err != nil && j.service:
		answer(w, http.StatusInternalServerError, begun.err.Error())
	case begun.err != nil:
		answer(w, http.StatusInternalServerError, fmt.Sprintf("command %s failed: %s: %v", j.text, begun.written, begun.err))
	case returnOutput:
		answer(w, http.StatusOK, begun.written)
	default:
		w.WriteHeader(http.StatusOK)
	}
}

// commandOf reads the command of a payload.
func commandOf(p hook.Payload) (string, error) {
	text := p.Metadata[keyCommand]
	if strings.TrimSpace(text) == "" {
		return "", errors.New("metadata.cmd is empty: set it to the command to run")
	}
	return text, nil
}

func prepareCommand(t *Tester, p hook.Payload) (job, error) {
	text, err := commandOf(p)
	if err != nil {
		return job{}, err
	}
	if t.shell(p.Namespace) {
		return t.program(text, "sh", "-c", t.functions()+text), nil
	}
	argv, err := wordsOfShell(text)
	if errors.Is(err, errShell) {
		return job{}, &forbiddenError{fmt.Sprintf("metadata.cmd: %v, which -enable-shell and -shell-namespaces do not allow payloads of namespace %q", err, p.Namespace)}
	}
	if err != nil {
		return job{}, fmt.Errorf("metadata.cmd: %w", err)
	}
	if self := t.builtIn()[argv[0]]; self != "" {
		argv = append([]string{self}, argv...)
	}
	return t.program(text, argv...), nil
}

func prepareBash(t *Tester, p hook.Payload) (job, error) {
	text, err := commandOf(p)
	if err != nil {
		return job{}, err
	}
	if !t.shell(p.Namespace) {
		return job{}, &forbiddenError{fmt.Sprintf("tasks of type bash need a shell, which -enable-shell and -shell-namespaces do not allow payloads of namespace %q", p.Namespace)}
	}
	return t.program(text, "bash", "-c", t.functions()+text), nil
}

// prepareTool runs a program with the words of the command as its arguments.
func prepareTool(name string) func(*Tester, hook.Payload) (job, error) {
	return func(t *Tester, p hook.Payload) (job, error) {
		text, err := commandOf(p)
		if err != nil {
			return job{}, err
		}
		arguments, err := words(text)
		if err != nil {
			return job{}, fmt.Errorf("metadata.cmd: %w", err)
		}
		return t.program(text, append([]string{name}, arguments...)...), nil
	}
}

// program is the job to run a program.
func (t *Tester) program(text string, argv ...string) job {
	c := &command{argv: argv, clock: t.options.Clock}
	return job{text: text, do: func(ctx context.Context, _ *zap.Logger) (string, <-chan struct{}, error) { return c.run(ctx) }}
}

// builtIn are the commands that no program on the PATH is.
func (t *Tester) builtIn() map[string]string {
	missing := map[string]string{}
	for name, path := range t.options.BuiltIn {
		if _, err := exec.LookPath(name); err != nil {
			missing[name] = path
		}
	}
	return missing
}

// functions define the built-in commands for a shell.
func (t *Tester) functions() string {
	var b strings.Builder
	for name, path := range t.builtIn() {
		quoted := "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
		fmt.Fprintf(&b, `%s() { %s %s "$@"; }; `, name, quoted, name)
	}
	return b.String()
}
