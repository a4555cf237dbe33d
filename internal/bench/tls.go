package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"sync"
	"time"
)

// rsaBits is the size of every peer's RSA key.
const rsaBits = 2048

// tlsCredentials are TLS 1.3 with an RSA key of that size on both sides, and Go's defaults else: AES-128-GCM and X25519MLKEM768.
var tlsCredentials = sync.OnceValues(func() (c struct{ server, client *tls.Config }, err error) {
	now := time.Now()
	make := func(serial int64) (tls.Certificate, *x509.Certificate, error) {
		key, err := rsa.GenerateKey(rand.Reader, rsaBits)
		if err != nil {
			return tls.Certificate{}, nil, err
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "bench"}, DNSNames: []string{"bench"},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			return tls.Certificate{}, nil, err
		}
		parsed, err := x509.ParseCertificate(der)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parsed}, parsed, err
	}
	ours, ourCert, err1 := make(1)
	theirs, theirCert, err2 := make(2)
	if err := errors.Join(err1, err2); err != nil {
		return c, err
	}
	servers, clients := x509.NewCertPool(), x509.NewCertPool()
	servers.AddCert(ourCert)
	clients.AddCert(theirCert)
	c.server = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{ours}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	c.client = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{theirs}, RootCAs: servers, ServerName: "bench"}
	return c, nil
})

// tlsPair returns both ends of a connection whose handshake is over.
func tlsPair() (client, server net.Conn, err error) {
	c, err := tlsCredentials()
	if err != nil {
		return nil, nil, err
	}
	rawClient, rawServer, err := tcpPair()
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := tls.Client(rawClient, c.client), tls.Server(rawServer, c.server)
	done := make(chan error, 1)
	go func() { done <- theirs.Handshake() }()
	return ours, theirs, errors.Join(ours.Handshake(), <-done)
}

func tcpPair() (client, server net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	server, err = l.Accept()
	return client, server, err
}

// tlsListener serves the peers that want a listener.
func tlsListener(protocols ...string) (net.Listener, *tls.Config, error) {
	c, err := tlsCredentials()
	if err != nil {
		return nil, nil, err
	}
	server, client := c.server.Clone(), c.client.Clone()
	server.NextProtos, client.NextProtos = protocols, protocols
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	return l, client, err
}

// shakeTLS makes connections that are authenticated both ways, with tickets if they are to be resumed.
func shakeTLS(resume bool, callers int) (func(int) error, func(), error) {
	l, config, err := tlsListener()
	if err != nil {
		return nil, nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				if resume {
					conn.Write([]byte{0}) // behind the ticket
				}
				conn.(*tls.Conn).Handshake()
				conn.Read(make([]byte, 1)) // until the client closes
				conn.Close()
			})
		}
	})
	dialers := make([]tls.Dialer, callers)
	for i := range dialers {
		dialers[i].Config = config.Clone()
		if resume {
			dialers[i].Config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		}
	}
	dial := func(caller int) (bool, error) {
		conn, err := dialers[caller].DialContext(context.Background(), "tcp", l.Addr().String())
		if err != nil {
			return false, err
		}
		defer conn.Close()
		if resume {
			_, err = conn.Read(make([]byte, 1))
		}
		return conn.(*tls.Conn).ConnectionState().DidResume, err
	}
	f, err := shaking(dial, resume, callers)
	return f, func() { l.Close(); wg.Wait() }, err
}

func dialTLS(addr string, config *tls.Config) (net.Conn, error) {
	return (&tls.Dialer{Config: config}).DialContext(context.Background(), "tcp", addr)
}

func listenTCP() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
