// Package pair is a TLS server and its client, for the programs beside it.
package pair

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log"
	"math/big"
	"net"
	"time"
)

// Listen returns a listener on loopback and the configuration of its clients.
func Listen() (net.Listener, *tls.Config) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"bench"}, NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	Check(err)
	cert, err := x509.ParseCertificate(der)
	Check(err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Check(err)
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2"}}
	return tls.NewListener(l, config), &tls.Config{RootCAs: pool, ServerName: "bench"}
}

// Dial connects to a listener.
func Dial(l net.Listener, config *tls.Config) net.Conn {
	conn, err := tls.Dial("tcp", l.Addr().String(), config)
	Check(err)
	return conn
}

// Check ends the program with an error, if there is one.
func Check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
