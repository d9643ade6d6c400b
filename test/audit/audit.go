// Package audit reads the audit log of the API server of a testbed: who called what, and when. It also proves from such calls that no key
// was worked on by two at once.
package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// maxLine is the longest line that is read, in bytes. The log has no bodies; what is long is the URI of a patch or a list.
const maxLine = 16 << 20

// Call is the part of a line of the audit log that matters to tests.
type Call struct {
	Verb                     string
	RequestURI               string
	RequestReceivedTimestamp time.Time
	// StageTimestamp is when the call was done.
	StageTimestamp   time.Time
	ImpersonatedUser *struct{ Username string }
	ObjectRef        *struct{ Resource, Subresource, Name string }
	ResponseStatus   *struct{ Code int }
}

// Resource is what a call is about, with the subresource, such as "canaries/status". It is empty for a call about no resource.
func (c *Call) Resource() string {
	switch {
	case c.ObjectRef == nil:
		return ""
	case c.ObjectRef.Subresource != "":
		return c.ObjectRef.Resource + "/" + c.ObjectRef.Subresource
	}
	return c.ObjectRef.Resource
}

// Name is the name of the object that a call is about, empty where the API server chose it or where it is about many.
func (c *Call) Name() string {
	if c.ObjectRef == nil {
		return ""
	}
	return c.ObjectRef.Name
}

// Read hands over the calls of an impersonated user that were received in a span of time, in the order of the log, from all logs
// below the state folder of a testbed. It fails when there is no log.
func Read(state, user string, since, until time.Time, each func(*Call)) error {
	found, named := false, []byte(user)
	err := filepath.WalkDir(state, func(path string, d fs.DirEntry, err error) error {
		// A log that has grown too long is put aside under a name with its time, which sorts before the present one.
		if rotated, _ := filepath.Match("audit-*.log", filepath.Base(path)); err != nil || !rotated && d.Name() != "audit.log" {
			return nil //nolint:nilerr // folders of other processes may vanish meanwhile
		}
		found = true
		return readFile(path, named, func(c *Call) {
			if c.ImpersonatedUser != nil && c.ImpersonatedUser.Username == user &&
				!c.RequestReceivedTimestamp.Before(since) && !c.RequestReceivedTimestamp.After(until) {
				each(c)
			}
		})
	})
	if err == nil && !found {
		err = errors.New("no audit.log below " + state)
	}
	return err
}

func readFile(path string, named []byte, each func(*Call)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		// All users write to this log: most of it is not worth decoding.
		if !bytes.Contains(lines.Bytes(), named) {
			continue
		}
		var c Call
		// The last line may be half written.
		if json.Unmarshal(lines.Bytes(), &c) == nil {
			each(&c)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
