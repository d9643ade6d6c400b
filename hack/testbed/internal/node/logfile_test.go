package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

func testLog(t *testing.T) (*logFile, *clocktesting.FakeClock) {
	t.Helper()
	clk := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	log, err := newLogFile(filepath.Join(t.TempDir(), "0.log"), clk)
	if err != nil {
		t.Fatal(err)
	}
	return log, clk
}

func TestLogOptions(t *testing.T) {
	log, clk := testLog(t)
	for i := range 3000 {
		log.write([]byte(fmt.Sprintf("line %d", i)))
		clk.Step(time.Second)
	}
	for _, row := range []struct {
		name string
		opts logOptions
		want string
	}{
		{"tail", logOptions{Tail: 2}, "line 2998\nline 2999\n"},
		{"tail of none", logOptions{Tail: 0}, ""},
		{"since", logOptions{Tail: -1, Since: clk.Now().Add(-time.Second)}, "line 2999\n"},
		{"timestamps", logOptions{Tail: 1, Timestamps: true}, "2026-01-01T00:49:59Z line 2999\n"},
		{"limit", logOptions{Tail: 2, LimitBytes: 12}, "line 2998\nli"},
	} {
		var out bytes.Buffer
		if err := log.copyTo(t.Context(), &out, row.opts); err != nil || out.String() != row.want {
			t.Errorf("%s: %q, %v; want %q", row.name, out.String(), err, row.want)
		}
	}
	var all bytes.Buffer
	if err := log.copyTo(t.Context(), &all, logOptions{Tail: -1}); err != nil || strings.Count(all.String(), "\n") != 3000 {
		t.Errorf("all: %d lines, %v", strings.Count(all.String(), "\n"), err)
	}
}

func TestLogFollowsUntilTheContainerEnds(t *testing.T) {
	log, _ := testLog(t)
	out, err := log.pipe()
	if err != nil {
		t.Fatal(err)
	}
	read, write := io.Pipe()
	go func() {
		write.CloseWithError(log.copyTo(context.Background(), write, logOptions{Tail: -1, Follow: true}))
	}()
	for _, line := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(out, line); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(line))
		if _, err := io.ReadFull(read, got); err != nil || string(got) != line {
			t.Fatalf("followed %q, %v", got, err)
		}
	}
	_, _ = io.WriteString(out, "no newline")
	_ = out.Close()
	rest, err := io.ReadAll(read)
	if err != nil || string(rest) != "no newline\n" {
		t.Errorf("the end is %q, %v", rest, err)
	}
	<-log.complete
}
