// Package remote runs commands inside a testbed, and opens connections there,
// for programs outside. The request comes over a unix socket in the state
// folder; terminals, pipes and files of a command are passed along as open
// files. Nothing has to enter the namespaces, which a process with threads
// could not do anyway.
package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// request opens a conversation; one field is set.
type request struct {
	Exec *execRequest `json:"exec,omitempty"`
	Dial *dialRequest `json:"dial,omitempty"`
}

// execRequest comes with three files: input, output, error output.
type execRequest struct {
	Args     []string `json:"args"`
	Env      []string `json:"env"`
	Dir      string   `json:"dir"`
	Terminal bool     `json:"terminal"`
}

// dialRequest makes the connection lead to a TCP address inside.
type dialRequest struct {
	Address string `json:"address"`
}

// reply is sent by the server: Error and nothing more, or Started; Exited once
// the command has ended.
type reply struct {
	Error   string `json:"error,omitempty"`
	Started bool   `json:"started,omitempty"`
	Exited  *int   `json:"exited,omitempty"`
}

// signalMessage is sent by the client while the command runs.
type signalMessage struct {
	Signal int `json:"signal"`
}

// stdFiles is the number of files that come with an exec request.
const stdFiles = 3

// sendFiles sends one byte that carries files.
func sendFiles(conn *net.UnixConn, files ...*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	if _, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(fds...), nil); err != nil {
		return fmt.Errorf("pass files: %w", err)
	}
	return nil
}

// receiveFiles receives what sendFiles sent.
func receiveFiles(conn *net.UnixConn) ([]*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(stdFiles*4))
	n, oobn, _, _, err := conn.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return nil, fmt.Errorf("receive files: %w", err)
	}
	if n == 0 {
		return nil, io.EOF
	}
	if oobn == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, errors.Join(errors.New("receive files: bad control message"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, fmt.Errorf("receive files: %w", err)
	}
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		unix.CloseOnExec(fd)
		files[i] = os.NewFile(uintptr(fd), "passed")
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// readLine reads one JSON message without reading past its line, since what
// follows on a connection may be anything.
func readLine(r io.Reader, into any) error {
	var line []byte
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(r, one); err != nil {
			return err
		}
		if one[0] == '\n' {
			return json.Unmarshal(line, into)
		}
		line = append(line, one[0])
	}
}

func writeLine(w io.Writer, message any) error {
	line, err := json.Marshal(message)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}
