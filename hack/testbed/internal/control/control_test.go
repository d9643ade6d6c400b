package control

import (
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestConversation(t *testing.T) {
	supervisor, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	worker, err := Worker(uintptr(fd))
	if err != nil {
		t.Fatal(err)
	}
	order := Order{Plan: &Plan{Name: "a", Features: []string{"f"}, Images: map[string]Image{"i:*": {Path: "/p", Args: []string{"x"}}}}}
	if err := supervisor.Send(order); err != nil {
		t.Fatal(err)
	}
	got, err := worker.Receive()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(order, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	// What was said before the end is heard after it.
	if err := errors.Join(worker.Send(Report{Status: "s"}), worker.Send(Report{Error: "e"}), worker.Close()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []Report{{Status: "s"}, {Error: "e"}} {
		if got, err := supervisor.Receive(); err != nil || got != want {
			t.Errorf("report %v, %v; want %v", got, err, want)
		}
	}
	if _, err := supervisor.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v, want EOF", err)
	}
}
