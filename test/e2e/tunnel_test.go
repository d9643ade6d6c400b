package e2e

import (
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"sync"
)

// tunnel is a SOCKS server through which a process makes its connections. While it is closed it holds up new ones, so that calls are
// begun and not sent.
type tunnel struct {
	net.Listener
	wait sync.WaitGroup

	awaited
	closed bool
	held   int
}

// tunnel returns an open one.
func (t *team) tunnel() *tunnel {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	t.must(err)
	w := &tunnel{Listener: listener}
	w.wait.Go(w.serve)
	t.Cleanup(func() {
		listener.Close()
		w.turn(false)
		w.wait.Wait()
	})
	return w
}

// url is where a client finds it.
func (w *tunnel) url() string { return "socks5://" + w.Addr().String() }

// turn closes or opens it.
func (w *tunnel) turn(closed bool) {
	w.change(func() { w.closed = closed })
}

// holds waits until it holds up so many connections.
func (w *tunnel) holds(n int) bool { return w.until(func() bool { return w.held >= n }) }

func (w *tunnel) serve() {
	for {
		conn, err := w.Accept()
		if err != nil {
			return
		}
		w.wait.Go(func() {
			defer conn.Close()
			w.carry(conn)
		})
	}
}

// carry leads one connection where its client wants it to go, which says so in the words of RFC 1928.
func (w *tunnel) carry(conn net.Conn) {
	var hello [3]byte
	var request [10]byte
	if _, err := io.ReadFull(conn, hello[:]); err != nil {
		return
	}
	if _, err := conn.Write([]byte{5, 0}); err != nil {
		return
	}
	if _, err := io.ReadFull(conn, request[:]); err != nil {
		return
	}
	w.change(func() { w.held++ })
	w.until(func() bool { return !w.closed })
	w.change(func() { w.held-- })
	to := net.JoinHostPort(net.IP(request[4:8]).String(), strconv.Itoa(int(binary.BigEndian.Uint16(request[8:]))))
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	if _, err := conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
		return
	}
	w.wait.Go(func() {
		_, _ = io.Copy(server, conn)
		server.Close()
	})
	_, _ = io.Copy(conn, server)
}
