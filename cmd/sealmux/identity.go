package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sealmux/sealmux/transport"
)

// An identity is a public key as persons and programs compare it.
type identity struct {
	Private     string `json:"private,omitempty"` // the file
	Public      string `json:"public,omitempty"`  // the file
	Bits        int    `json:"bits,omitempty"`
	Fingerprint string `json:"fingerprint"`
	Words       string `json:"words"`
	Line        string `json:"line,omitempty"`

	print transport.Fingerprint
}

func identityOf(key *transport.PublicKey, comment string) identity {
	i := identityNamed(key.Fingerprint())
	i.Bits, i.Line = key.Bits(), key.MarshalLine(comment)
	return i
}

// identityNamed is that of a key of which no more than the fingerprint is known.
func identityNamed(print transport.Fingerprint) identity {
	return identity{
		Fingerprint: print.String(), print: print, Words: strings.Join(strings.Fields(fingerprintWords(print)), " "),
	}
}

// describe prints the forms of a fingerprint that a person compares by eye and by ear.
func (i identity) describe(w io.Writer) {
	title := "RSA"
	if i.Bits > 0 {
		title = fmt.Sprintf("RSA %d", i.Bits)
	}
	io.WriteString(w, fingerprintArt(i.print, title))
	fmt.Fprintf(w, "to read it aloud:\n  %s\n", strings.ReplaceAll(fingerprintWords(i.print), "\n", "\n  "))
}

// readEitherKey reads the public key in a file that has it, or of a private one.
func readEitherKey(path string) (*transport.PublicKey, error) {
	public, err := transport.ReadPublicKey(path)
	if err == nil || !begins(path, "PRIVATE") {
		return public, keyError("--show", path, err)
	}
	private, err := transport.ReadPrivateKey(path)
	if err != nil {
		return nil, keyError("--show", path, err)
	}
	return private.Public(), nil
}

// begins reports whether a file begins as keys of a kind do, "PRIVATE" or "PUBLIC". It opens nothing else, such as a pipe that nobody writes to.
func begins(path, kind string) bool {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return false
	}
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	head := make([]byte, len("-----BEGIN ENCRYPTED PRIVATE KEY"))
	n, _ := io.ReadFull(file, head)
	return bytes.HasPrefix(head, []byte("-----BEGIN ")) && bytes.Contains(head[:n], []byte(kind))
}
