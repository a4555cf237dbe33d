package transport

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestKnownAddress(t *testing.T) {
	for in, want := range map[string]string{
		"example.org:7443":        "example.org:7443",
		"Example.ORG:07443":       "example.org:7443",
		"example.org.:1":          "example.org.:1", // another name, where a search list is used
		":7443":                   "localhost:7443",
		"127.0.0.1:65535":         "127.0.0.1:65535",
		"[::1]:7443":              "[::1]:7443",
		"[0:0::0001]:7443":        "[::1]:7443",
		"[2001:DB8::1]:1":         "[2001:db8::1]:1",
		"[::ffff:10.0.0.7]:1":     "10.0.0.7:1", // where net.Dial connects
		"[fe80::1%eth0]:1":        "[fe80::1%eth0]:1",
		"a_b-c.internal:1":        "a_b-c.internal:1",
		"xn--r8jz45g.jp:1":        "xn--r8jz45g.jp:1",
		"":                        "",
		"example.org":             "",
		"example.org:":            "",
		"example.org:0":           "",
		"example.org:65536":       "",
		"example.org:+1":          "",
		"example.org:http":        "",
		"::1:7443":                "",
		"[::1":                    "",
		"[not:an:address]:1":      "",
		"*.example.org:1":         "",
		"a,b:1":                   "",
		"!a:1":                    "",
		"|1|hash=:1":              "",
		"a b:1":                   "",
		"a#b:1":                   "",
		"a\n:1":                   "",
		"a\x00:1":                 "",
		"例え.jp:1":                 "",
		"[fe80::1%a b]:1":         "",
		"/run/sealmux.sock":       "",
		"example.org:99999999999": "",
	} {
		if got, err := knownAddress(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestReadKnownServers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "known_servers")
	one, two := serverKeyForTest().Fingerprint(), otherKeyForTest().Fingerprint()
	if lines, err := ReadKnownServers(path); lines != nil || err != nil {
		t.Error(lines, err)
	}
	write(t, path, "# who is who\r\n\n\t[::1]:1   sealmux-rsa\t"+one.String()+"  # with an end\r\n#a:1 sealmux-rsa x\nA:1 sealmux-rsa "+two.String())
	lines, err := ReadKnownServers(path)
	if want := []KnownServer{{"[::1]:1", one, path, 3}, {"a:1", two, path, 5}}; err != nil || !slices.Equal(lines, want) {
		t.Errorf("%+v, %v", lines, err)
	}
	for _, bad := range []string{
		"example.org sealmux-rsa " + one.String(),
		"example.org:1 ssh-rsa " + one.String(),
		"example.org:1 sealmux-rsa " + one.String() + " more",
		"example.org:1 sealmux-rsa " + one.String()[:20],
		"example.org:1 sealmux-rsa",
		"@revoked example.org:1 sealmux-rsa " + one.String(),
		"*:1 sealmux-rsa " + one.String(),
		"\ufeffexample.org:1 sealmux-rsa " + one.String(),
		"\x00",
	} {
		write(t, path, "\n\n"+bad+"\n")
		if lines, err := ReadKnownServers(path); lines != nil || !errors.Is(err, ErrKnownServers) || !strings.Contains(err.Error(), path+":3: ") {
			t.Errorf("%q: %v, %v", bad, lines, err)
		}
	}
	write(t, path, strings.Repeat("#", maxKnownFile))
	if _, err := ReadKnownServers(path); err != nil {
		t.Error(err)
	}
	if err := addKnown(path, "a:1", one); !errors.Is(err, ErrKnownServers) || len(contents(t, path)) != maxKnownFile {
		t.Error(err)
	}
	write(t, path, strings.Repeat("#", maxKnownFile+1))
	for _, odd := range []string{path, dir, filepath.Join(path, "below")} {
		if _, err := ReadKnownServers(odd); !errors.Is(err, ErrKnownServers) {
			t.Errorf("%s: %v", odd, err)
		}
		if err := addKnown(odd, "a:1", one); !errors.Is(err, ErrKnownServers) {
			t.Errorf("%s: %v", odd, err)
		}
		if _, err := ForgetServer(odd, "a:1"); !errors.Is(err, ErrKnownServers) {
			t.Errorf("%s: %v", odd, err)
		}
	}
	var many strings.Builder
	for i := range maxKeyIDs + 1 {
		fmt.Fprintln(&many, knownLine("a:1", Fingerprint{byte(i)}))
	}
	write(t, path, many.String())
	k := KnownServers(path, nil).servers
	if _, err := k.lines("a:1"); !errors.Is(err, ErrKnownServers) || !strings.Contains(err.Error(), path+":17: ") {
		t.Error(err)
	}
	if lines, err := k.lines("b:1"); len(lines) > 0 || err != nil {
		t.Error(lines, err)
	}
	// The same line again and again, as many processes write it that meet a server at once, is one key.
	write(t, path, strings.Repeat(knownLine("a:1", one)+"\n", 2*maxKeyIDs)+knownLine("a:1", two))
	if lines, err := k.lines("a:1"); err != nil || !slices.Equal(lines, []KnownServer{{"a:1", one, path, 1}, {"a:1", two, path, 2*maxKeyIDs + 1}}) {
		t.Error(lines, err)
	}
}

// Lines that are added at once are all there, also behind one without an end.
func TestAddKnown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known_servers")
	write(t, path, knownLine("a:1", Fingerprint{1}))
	var work sync.WaitGroup
	for i := range 50 {
		work.Go(func() {
			if err := addKnown(path, fmt.Sprintf("b:%d", i+1), Fingerprint{2}); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	if err := addKnown(path, "b:7", Fingerprint{2}); err != nil { // it is there
		t.Error(err)
	}
	if lines, err := ReadKnownServers(path); len(lines) != 51 || err != nil {
		t.Error(len(lines), err)
	}
	write(t, path, "nonsense")
	if err := addKnown(path, "b:7", Fingerprint{2}); !errors.Is(err, ErrKnownServers) || contents(t, path) != "nonsense" {
		t.Error(err)
	}
}

func TestForgetServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known_servers")
	if gone, err := ForgetServer(path, "a:1"); gone != nil || err != nil {
		t.Error(gone, err)
	}
	one, two := Fingerprint{1}, Fingerprint{2}
	write(t, path, knownLine("a:1", one)+"\n"+knownLine("b:1", one)+"\n  A:01\t\tsealmux-rsa "+two.String()+" # the old one\r\n"+knownLine("a:1", one))
	before := contents(t, path)
	gone, err := ForgetServer(path, "a:1")
	if err != nil || !slices.Equal(gone, []KnownServer{{"a:1", one, path, 1}, {"a:1", two, path, 3}, {"a:1", one, path, 4}}) {
		t.Errorf("%+v, %v", gone, err)
	}
	want := "# a:1 forgotten " + one.String() + "\n" + knownLine("b:1", one) + "\n# A:01 forgotten " + two.String() + "    # the old one\r\n# a:1 forgotten " + one.String()
	if got := contents(t, path); got != want || len(got) != len(before) {
		t.Errorf("%q", got)
	}
	if gone, err := ForgetServer(path, "a:1"); len(gone) > 0 || err != nil {
		t.Error(gone, err)
	}
	if err := addKnown(path, "a:1", two); err != nil {
		t.Error(err)
	}
	if lines, err := ReadKnownServers(path); err != nil || !slices.Equal(lines, []KnownServer{{"b:1", one, path, 2}, {"a:1", two, path, 5}}) {
		t.Errorf("%+v, %v", lines, err)
	}
	if _, err := ForgetServer(path, "a"); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
	write(t, path, "nonsense\n"+knownLine("a:1", one))
	before = contents(t, path)
	if _, err := ForgetServer(path, "a:1"); !errors.Is(err, ErrKnownServers) || contents(t, path) != before {
		t.Error(err)
	}
}

// A known-servers file: what is accepted means the same when it is written anew; a line that is added is the last, and of a server
// that is forgotten nothing is left, while all others stay in their place.
func FuzzKnownServers(f *testing.F) {
	line := knownLine("example.org:7443", Fingerprint{1})
	for _, text := range []string{"", "# nobody\n", line, line + "\n" + knownLine("[::1]:1", Fingerprint{2}) + "\r\n", "\t" + line + " # Paris",
		line + "\r", strings.ToUpper("example.org") + ":07443  sealmux-rsa\t" + Fingerprint{3}.String() + "\n\n" + line, "example.org:7443 sealmux-rsa SHA256:short"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := parseKnown("k", data)
		if err != nil {
			if all != nil {
				t.Fatal("half of it is believed")
			}
			return
		}
		var anew []byte
		for _, found := range all {
			if name, err := knownAddress(found.Address); name != found.Address || err != nil {
				t.Fatalf("%q becomes %q, %v", found.Address, name, err)
			}
			anew = append(anew, knownLine(found.Address, found.Key)+"\n"...)
		}
		same(t, all, anew, true)
		more, err := parseKnown("k", append(bytes.Clone(data), appended(data, "b.example:1", Fingerprint{9})...))
		if err != nil || len(more) != len(all)+1 || more[len(all)].Address != "b.example:1" || more[len(all)].Key != (Fingerprint{9}) {
			t.Fatalf("%+v, %v", more, err)
		}
		if len(all) == 0 {
			return
		}
		name, left := all[0].Address, bytes.Clone(data)
		for _, found := range all {
			if found.Address == name {
				copy(left[found.at:], found.forgotten())
			}
		}
		others := slices.DeleteFunc(slices.Clone(all), func(f foundServer) bool { return f.Address == name })
		same(t, others, left, false)
	})
}

func same(t *testing.T, want []foundServer, data []byte, moved bool) {
	t.Helper()
	got, err := parseKnown("k", data)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%q: %v, %+v; want %+v", data, err, got, want)
	}
	for i := range got {
		if got[i].Address != want[i].Address || got[i].Key != want[i].Key || !moved && got[i] != want[i] {
			t.Fatalf("%q: %+v; want %+v", data, got[i], want[i])
		}
	}
}
