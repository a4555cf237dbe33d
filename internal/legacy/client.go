package legacy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"unicode/utf8"
)

// ErrNoReply means that the server ended the connection, which is all that this wire has to say about a request that it refuses: among
// other reasons, because it holds another key.
var ErrNoReply = errors.New("legacy: the server ended the connection")

// A Client is a connection to a server that speaks the wire of the scripts. Its calls run one after the other. All methods may be called by
// many goroutines at once.
type Client struct {
	key     *PublicKey
	raw     net.Conn
	calling chan struct{} // a token: the right to make a call
	replies chan []byte   // without their #
	closing chan struct{}
	close   sync.Once
	done    chan struct{} // closed when the reading goroutine has ended
	err     error         // why; set before done is closed
}

// NewClient makes a client of a connection, which it owns from now on. Close must be called.
func NewClient(raw net.Conn, key *PublicKey) *Client {
	c := &Client{key: key, raw: raw, calling: make(chan struct{}, 1), replies: make(chan []byte), closing: make(chan struct{}),
		done: make(chan struct{})}
	go c.read()
	return c
}

// Dial connects to a server and makes a client. The context bounds the connecting alone.
func Dial(ctx context.Context, network, address string, key *PublicKey) (*Client, error) {
	raw, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return NewClient(raw, key), nil
}

// Call sends a text of up to MaxText bytes (ErrTooLong), and returns the reply. NULs at the end of either are lost. An error of sending or of
// the reply, and the end of ctx, end the connection: no further call can succeed.
func (c *Client) Call(ctx context.Context, text string) (string, error) {
	switch {
	case len(text) > MaxText:
		return "", fmt.Errorf("%w: a text of %d bytes; the limit is %d", ErrTooLong, len(text), MaxText)
	case !utf8.ValidString(text):
		return "", errors.New("legacy: a text that is not UTF-8")
	}
	select {
	case c.calling <- struct{}{}:
		defer func() { <-c.calling }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	request, with, err := c.key.seal(text)
	if err != nil {
		return "", err
	}
	return c.exchange(ctx, append(request, ending), with)
}

// exchange writes a request and waits for its reply.
func (c *Client) exchange(ctx context.Context, request []byte, with pair) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	defer context.AfterFunc(ctx, c.shut)()
	written := make(chan error, 1)
	go func() { // it ends with the connection at the latest, and is waited for
		_, err := c.raw.Write(request)
		written <- err
	}()
	var reply []byte
	var err error
	select {
	case reply = <-c.replies:
	case <-c.done:
		err = c.err
	}
	if err != nil {
		c.shut()
	}
	if writeErr := <-written; err == nil && writeErr != nil {
		err = fmt.Errorf("legacy: the connection broke: %w", writeErr)
	}
	var text string
	if err == nil {
		text, err = openReply(reply, with)
	}
	if err == nil {
		return text, nil
	}
	c.shut()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	return "", err
}

// read is the goroutine that reads replies. It notices the end of the connection while no call waits, too.
func (c *Client) read() {
	defer close(c.done)
	in := bufio.NewReaderSize(c.raw, smallRequest)
	for {
		reply, err := readReply(in)
		if err != nil {
			c.err = err
			c.raw.Close()
			return
		}
		select {
		case c.replies <- reply:
		case <-c.closing:
			c.err = net.ErrClosed
			return
		}
	}
}

// readReply reads what comes before the next #, growing as it comes.
func readReply(in *bufio.Reader) ([]byte, error) {
	var reply []byte
	for {
		part, err := in.ReadSlice(ending)
		if len(reply)+len(part) > maxMessage+1 {
			return nil, fmt.Errorf("%w: a reply of more than %d bytes", ErrTooLong, maxMessage)
		}
		reply = append(reply, part...)
		switch {
		case err == nil:
			return reply[:len(reply)-1], nil
		case err == io.EOF:
			return nil, ErrNoReply
		case err != bufio.ErrBufferFull:
			return nil, fmt.Errorf("%w: %w", ErrNoReply, err)
		}
	}
}

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is why the connection has ended, valid once Done is closed.
func (c *Client) Err() error { return c.err }

func (c *Client) shut() {
	c.close.Do(func() {
		close(c.closing)
		c.raw.Close()
	})
}

// Close ends the connection, and waits for what the client had running.
func (c *Client) Close() {
	c.shut()
	<-c.done
}
