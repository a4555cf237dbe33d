package vectors

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFormat(t *testing.T) {
	c := new(Case)
	c.Add("title", "a case: with a colon")
	c.Add("pin", "one")
	c.Add("pin", "two")
	c.AddHex("secret", []byte{0xff, 0})
	c.AddBlock("in", bytes.Repeat([]byte{7}, 20))
	c.AddBlock("in", bytes.Repeat([]byte{7}, 20))
	c.AddBlock("out", nil)
	want := "title: a case: with a colon\npin: one\npin: two\nsecret: ff00\n\n[in]\n" + strings.Repeat("07", 32) + "\n" +
		strings.Repeat("07", 8) + "\n\n[out]\n"
	if got := string(c.Format()); got != want {
		t.Fatalf("%q\nwant %q", got, want)
	}
	dir := filepath.Join(t.TempDir(), "cases")
	if err := Save(dir, map[string]*Case{"a": c, "b": c}); err != nil {
		t.Fatal(err)
	}
	if err := Save(dir, map[string]*Case{"a": c}); err != nil { // b goes
		t.Fatal(err)
	}
	cases, err := Load(dir)
	if err != nil || len(cases) != 1 {
		t.Fatal(cases, err)
	}
	got := cases["a"]
	secret, err := got.Hex("secret")
	if err != nil || !bytes.Equal(secret, []byte{0xff, 0}) || len(got.All("pin")) != 2 || got.Get("none") != "" || len(got.Blocks[0].Data) != 40 {
		t.Errorf("%+v %v", got, err)
	}
}

func TestFaultyFiles(t *testing.T) {
	for _, text := range []string{"title", "a: b\n[in\n", "a: b\n[in]\n0g\n", "a: b\n[in]\n0\n", "a: b\n\n[in]\nFF\n"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "x.txt"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if cases, err := Load(dir); err == nil {
			t.Errorf("%q was read: %+v", text, cases["x"])
		}
	}
	if _, err := (&Case{Headers: []Header{{"a", "xyz"}}}).Hex("a"); err == nil {
		t.Error("xyz is no hex")
	}
}
