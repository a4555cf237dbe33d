package rpc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// webOver serves handler over a session, with the settings of web, and returns a client that opens connections there. opened counts them.
func webOver(t *testing.T, web *http.Server, over *http.Transport) (browser *http.Client, client *rpc.Client, opened *atomic.Int64) {
	t.Helper()
	srv := sealedStreams()
	listener := rpc.ListenConn(srv, "http")
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }()
	client, _, _ = sealed(t, srv)
	opened = new(atomic.Int64)
	over.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		opened.Add(1)
		return client.OpenConn(ctx, "http")
	}
	t.Cleanup(func() {
		over.CloseIdleConnections()
		web.Close()
		if err := <-served; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	return &http.Client{Transport: over}, client, opened
}

func get(t *testing.T, browser *http.Client, path string) (string, error) {
	t.Helper()
	resp, err := browser.Get("http://sealed" + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.Proto, " ", resp.StatusCode, " ", string(b)), err
}

// TestSealedHTTPKeepAlive: requests one after the other share a connection, of HTTP/1.1 and of HTTP/2, which many at once share too.
func TestSealedHTTPKeepAlive(t *testing.T) {
	for proto, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2.0": func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		t.Run(proto, func(t *testing.T) {
			var protocols http.Protocols
			set(&protocols)
			all, some := make(chan struct{}), new(atomic.Int64)
			mux := http.NewServeMux()
			mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })
			mux.HandleFunc("/meet", func(w http.ResponseWriter, r *http.Request) { // ends once ten are here
				if some.Add(1) == 10 {
					close(all)
				}
				<-all
			})
			browser, _, opened := webOver(t, &http.Server{Handler: mux, Protocols: &protocols}, &http.Transport{Protocols: &protocols})
			for range 20 {
				if got, err := get(t, browser, "/hello"); got != proto+" 200 "+proto || err != nil {
					t.Fatal(got, err)
				}
			}
			if n := opened.Load(); n != 1 {
				t.Errorf("%d connections for requests one after the other", n)
			}
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					if got, err := get(t, browser, "/meet"); got != proto+" 200 " || err != nil {
						t.Error(got, err)
					}
				})
			}
			wg.Wait()
			if n := opened.Load(); proto == "HTTP/2.0" && n != 1 || n > 10 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// TestSealedHTTPShutdown: http.Server.Shutdown answers what runs, takes nothing new, and leaves the session alone.
func TestSealedHTTPShutdown(t *testing.T) {
	for proto, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2.0": func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		var protocols http.Protocols
		set(&protocols)
		runs, release := make(chan struct{}), make(chan struct{})
		web := &http.Server{Protocols: &protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(runs)
			<-release
			io.WriteString(w, "answered")
		})}
		shut := make(chan struct{})
		web.RegisterOnShutdown(func() { close(shut) })
		browser, client, _ := webOver(t, web, &http.Transport{Protocols: &protocols})
		answer := make(chan string, 1)
		go func() {
			got, err := get(t, browser, "/")
			answer <- fmt.Sprint(got, " ", err)
		}()
		<-runs
		down := make(chan error, 1)
		go func() { down <- web.Shutdown(context.Background()) }()
		<-shut
		if _, err := client.OpenConn(context.Background(), "http"); !errors.Is(err, rpc.Unavailable) || rpc.OutcomeOf(err) != rpc.NotExecuted {
			t.Error(proto, err)
		}
		close(release)
		if got := <-answer; got != proto+" 200 answered <nil>" {
			t.Error(got)
		}
		if err := <-down; err != nil {
			t.Error(proto, err)
		}
		if n, err := rpc.Call[int](context.Background(), client, "ping", 7); n != 7 || err != nil {
			t.Error(proto, n, err)
		}
	}
}

// TestSealedHTTPHijack: a handler takes the connection over, as one of a WebSocket does, with bytes that came early; then a deadline ends a read.
func TestSealedHTTPHijack(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n")
		for {
			if err := rw.Flush(); err != nil {
				t.Error(err)
			}
			line, err := rw.ReadString('\n')
			switch {
			case err == io.EOF:
				return
			case err != nil:
				t.Error(err)
				return
			}
			io.WriteString(rw, strings.ToUpper(line))
		}
	})
	_, client, _ := webOver(t, &http.Server{Handler: handler}, &http.Transport{})
	conn, err := client.OpenConn(context.Background(), "http")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: any\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nearly\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	for _, word := range []string{"", "one", "two"} {
		if word != "" {
			fmt.Fprintln(conn, word)
		} else {
			word = "early"
		}
		if got, err := r.ReadString('\n'); got != strings.ToUpper(word)+"\n" || err != nil {
			t.Fatal(got, err)
		}
	}
	conn.SetReadDeadline(time.Unix(1, 0))
	if _, err := r.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	conn.SetReadDeadline(time.Time{})
	fmt.Fprintln(conn, "three")
	if got, err := r.ReadString('\n'); got != "THREE\n" || err != nil {
		t.Error(got, err)
	}
	conn.(interface{ CloseWrite() error }).CloseWrite()
	if _, err := r.ReadByte(); err != io.EOF {
		t.Error(err)
	}
}

// TestSealedHTTPDeadlines: a request's context and the timeouts of both sides end what waits.
func TestSealedHTTPDeadlines(t *testing.T) {
	gone := make(chan error, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/wait", func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		gone <- r.Context().Err()
	})
	browser, client, _ := webOver(t, &http.Server{Handler: mux, ReadHeaderTimeout: 50 * time.Millisecond}, &http.Transport{})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://sealed/wait", nil)
	if _, err := browser.Do(req); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := <-gone; !errors.Is(err, context.Canceled) { // the server has seen it
		t.Error(err)
	}
	conn, err := client.OpenConn(context.Background(), "http")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HT") // a slow one: the server gives it up
	if b, err := io.ReadAll(conn); err != nil || len(b) > 0 && !strings.HasPrefix(string(b), "HTTP/1.1 4") {
		t.Errorf("%q, %v", b, err)
	}
}

// TestSealedReverseProxy: a server of plain HTTP hands requests on to one behind the session, streams and upgrades among them.
func TestSealedReverseProxy(t *testing.T) {
	next := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/events", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 3 {
			fmt.Fprintln(w, i)
			http.NewResponseController(w).Flush()
			<-next
		}
	})
	mux.HandleFunc("/upgrade", func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(conn, rw)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.URL.Path, r.Header.Get("X-Forwarded-For") != "")
	})
	browser, _, _ := webOver(t, &http.Server{Handler: mux}, &http.Transport{})
	behind := &url.URL{Scheme: "http", Host: "behind"}
	front := httptest.NewServer(&httputil.ReverseProxy{Transport: browser.Transport, FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(behind); r.SetXForwarded() }})
	defer front.Close()
	resp, err := front.Client().Get(front.URL + "/a/b")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); string(b) != "/a/btrue" || err != nil {
		t.Error(string(b), err)
	}
	resp.Body.Close()
	resp, err = front.Client().Get(front.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	for r, i := bufio.NewReader(resp.Body), 0; i < 3; i++ { // each comes before the next is made
		if line, err := r.ReadString('\n'); line != fmt.Sprintln(i) || err != nil {
			t.Error(line, err)
		}
		next <- struct{}{}
	}
	resp.Body.Close()
	req, _ := http.NewRequest("GET", front.URL+"/upgrade", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err = front.Client().Do(req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	echo := resp.Body.(io.ReadWriteCloser)
	io.WriteString(echo, "up and down")
	got := make([]byte, 11)
	if _, err := io.ReadFull(echo, got); string(got) != "up and down" || err != nil {
		t.Error(string(got), err)
	}
	echo.Close()
}
