package receiver

import (
	"bytes"
	"compress/gzip"
	"time"
)

// Beginnings of answers, for behaviours to go on from.
const (
	// StatusOK is a status line; headers may follow.
	StatusOK = "HTTP/1.1 200 OK\r\n"
	// HeadersOK is all before a body of 60,000 bytes.
	HeadersOK = StatusOK + "Content-Length: 60000\r\n\r\n"
	// HeadersChunked is all before a chunked body.
	HeadersChunked = StatusOK + "Transfer-Encoding: chunked\r\n\r\n"
	// HeadersGzip is all before a chunked gzip body; GzipChunk makes chunks of it.
	HeadersGzip = StatusOK + "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
	// HeadersEndless is all before a body that ends with the connection.
	HeadersEndless = StatusOK + "Connection: close\r\n\r\n"
	// WholeOK is a whole answer.
	WholeOK = StatusOK + "Content-Length: 2\r\n\r\nok"
)

// Deaf reads nothing and says nothing: no request, and no TLS handshake.
func Deaf() Behaviour { return func(c *Conn) { c.Hang() } }

// Mute reads a byte and says nothing: with https it hangs inside the TLS handshake.
func Mute() Behaviour {
	return func(c *Conn) {
		if c.readByte() {
			c.Hang()
		}
	}
}

// ResetAtOnce reads a byte and resets the connection.
func ResetAtOnce() Behaviour {
	return func(c *Conn) {
		if c.readByte() {
			c.Reset()
		}
	}
}

// Babble says a text whatever was asked, before the request is read: with https, instead
// of a TLS handshake. It then hangs.
func Babble(text string) Behaviour {
	return func(c *Conn) {
		if c.readByte() && c.Say(text) {
			c.Hang()
		}
	}
}

func (c *Conn) readByte() bool {
	n, _ := c.Read(make([]byte, 1))
	return n == 1
}

// Say reads the request, says a text and closes the connection.
func Say(text string) Behaviour { return after(text, func(*Conn) {}) }

// Hang reads the request, says the beginning of an answer, and hangs.
func Hang(beginning string) Behaviour { return after(beginning, (*Conn).Hang) }

// Drip reads the request, says the beginning of an answer, and goes on with a text, a
// byte at a time, for ever.
func Drip(beginning, text string, every time.Duration) Behaviour {
	return after(beginning, func(c *Conn) { c.Drip(text, every) })
}

// Flood reads the request, says the beginning of an answer, and goes on with a text for
// ever.
func Flood(beginning, text string) Behaviour {
	return after(beginning, func(c *Conn) { c.Flood(text) })
}

// Reset reads the request, says the beginning of an answer, and resets the connection.
func Reset(beginning string) Behaviour { return after(beginning, (*Conn).Reset) }

func after(beginning string, do Behaviour) Behaviour {
	return func(c *Conn) {
		if c.ReadRequest() && c.Say(beginning) {
			do(c)
		}
	}
}

// Redirect answers with a status and a Location.
func Redirect(status, location string) Behaviour {
	return Say("HTTP/1.1 " + status + "\r\nLocation: " + location + "\r\nContent-Length: 0\r\n\r\n")
}

// GoAway is what an HTTP/2 server says that wants no more requests: SETTINGS, and GOAWAY
// for stream 0 without an error (RFC 9113 §6.5, §6.8).
const GoAway = "\x00\x00\x00\x04\x00\x00\x00\x00\x00" +
	"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00"

// Chunk is a text as one chunk of a chunked body. Its length is below 16 MiB.
func Chunk(text string) string {
	const digits = "0123456789abcdef"
	var size []byte
	for shift := 20; shift >= 0; shift -= 4 {
		size = append(size, digits[len(text)>>shift&15])
	}
	return string(size) + "\r\n" + text + "\r\n"
}

// GzipChunk is so many zero bytes as a whole gzip member, in one chunk: a bomb, when it
// comes again and again (RFC 1952 §2.2 lets members follow each other). Of no bytes, it
// is a body that goes on without ever holding anything.
func GzipChunk(zeros int) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(make([]byte, zeros)) // to memory, which cannot fail
	_ = w.Close()
	return Chunk(b.String())
}
