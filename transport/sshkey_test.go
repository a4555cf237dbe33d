package transport

import (
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestLine(t *testing.T) {
	key := serverKeyForTest().Public()
	for _, comment := range []string{"", "alice", "alice of example.org"} {
		line := key.MarshalLine(comment)
		if strings.TrimSpace(line) != line || strings.Contains(line, "\n") {
			t.Errorf("%q", line)
		}
		for _, text := range []string{line, line + "\n", line + "\r\n"} {
			if read, err := ParsePublicKey([]byte(text)); err != nil || !read.Equal(key) || read.MarshalLine(comment) != line {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
	if line := key.MarshalLine("a\nssh-rsa b"); strings.ContainsAny(line, "\n\r\x00") {
		t.Errorf("%q", line)
	}
}

func TestDamagedLines(t *testing.T) {
	line := serverKeyForTest().Public().MarshalLine("")
	blob, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, "ssh-rsa "))
	if err != nil {
		t.Fatal(err)
	}
	encode := func(b []byte) string { return "ssh-rsa " + base64.StdEncoding.EncodeToString(b) }
	at := len("\x00\x00\x00\x07ssh-rsa") // where the exponent begins: 00 00 00 03 01 00 01
	for name, text := range map[string]string{
		"two keys":       line + "\n" + line,
		"no key":         "ssh-rsa ",
		"base64":         line[:len(line)-1] + "!",
		"no rest":        encode(blob[:at]),
		"short":          encode(blob[:len(blob)-1]),
		"long":           encode(append(blob[:len(blob):len(blob)], 0)),
		"huge length":    encode(append(append([]byte{}, blob[:at]...), 0xff, 0xff, 0xff, 0xff)),
		"another name":   encode([]byte(strings.Replace(string(blob), "ssh-rsa", "ssh-dss", 1))),
		"zero before":    encode([]byte(strings.Replace(string(blob), "\x00\x00\x00\x03\x01\x00\x01", "\x00\x00\x00\x04\x00\x01\x00\x01", 1))),
		"exponent 3":     encode([]byte(strings.Replace(string(blob), "\x00\x00\x00\x03\x01\x00\x01", "\x00\x00\x00\x01\x03", 1))),
		"large exponent": encode([]byte(strings.Replace(string(blob), "\x00\x00\x00\x03\x01\x00\x01", "\x00\x00\x00\x09\x01\x00\x00\x00\x00\x00\x00\x00\x01", 1))),
		"elliptic":       "ecdsa-sha2-nistp256 AAAA",
	} {
		if _, err := ParsePublicKey([]byte(text)); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLineOfSSH compares with the program that the form comes from, both ways.
func TestLineOfSSH(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("ssh-keygen is not here to compare with")
	}
	dir := t.TempDir()
	public := filepath.Join(dir, "public.pem")
	key := serverKeyForTest().Public()
	if err := key.WriteFile(public); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ssh-keygen", "-i", "-m", "PKCS8", "-f", public).Output()
	if err != nil || strings.TrimSpace(string(out)) != key.MarshalLine("") {
		t.Errorf("ssh-keygen says %q, %v; we say %q", out, err, key.MarshalLine(""))
	}
	theirs := filepath.Join(dir, "theirs")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", "", "-C", "a comment", "-f", theirs).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	read, err := ReadPublicKey(theirs + ".pub")
	private, err2 := ReadPrivateKey(theirs)
	if err != nil || err2 != nil || !private.Public().Equal(read) {
		t.Error(err, err2)
	}
	line, _ := os.ReadFile(theirs + ".pub")
	if read != nil && read.MarshalLine("a comment")+"\n" != string(line) {
		t.Errorf("%q", line)
	}
}
