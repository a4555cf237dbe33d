package legacy

import (
	"fmt"
	"strings"
	"testing"
)

func TestLiteral(t *testing.T) {
	for _, c := range []struct {
		src, want string // "" for what is refused
	}{
		{`{"key":"a", "data":"b"}`, "a|b"},
		{`{'key': 'a', 'data': 'b'}`, "a|b"},
		{`{"data":"b","key":"a"}`, "a|b"},
		{`  {  'key'  :  "a"  ,  "data"  :  'b'  }  `, "a|b"},
		{`{"key":"", "data":''}`, "|"},
		{`{"key":"it's", "data":'"'}`, `it's|"`},
		{`{"key":"\\\'\"", "data":"\n\r\t"}`, "\\'\"|\n\r\t"},
		{`{"key":"\x41\u0042\U00000043", "data":"x\x7fy"}`, "ABC|x\x7fy"},
		{`{"k\x65y":"a", "data":"b"}`, "a|b"},
		{``, ""},
		{`{`, ""},
		{`{}`, ""},
		{`{"key":"a"}`, ""},
		{`{"key":"a", "data":"b"`, ""},
		{`{"key":"a", "data":"b"}}`, ""},
		{`{"key":"a", "data":"b"} x`, ""},
		{`{"key":"a", "data":"b",}`, ""},
		{`{"key":"a", "data":"b", "more":"c"}`, ""},
		{`{"key":"a", "key":"b"}`, ""},
		{`{"data":"a", "data":"b"}`, ""},
		{`{"key":"a", "other":"b"}`, ""},
		{`{"key":"a" "data":"b"}`, ""},
		{`{"key" "a", "data":"b"}`, ""},
		{`{"key":"a", "data":b}`, ""},
		{`{"key":"a", "data":1}`, ""},
		{`{"key":"a", "data":None}`, ""},
		{`{"key":"a", "data":b"b"}`, ""},
		{`{"key":r"a", "data":"b"}`, ""},
		{`{"key":"a""b", "data":"b"}`, ""},
		{`{"key":"""a""", "data":"b"}`, ""},
		{`{"key":("a"), "data":"b"}`, ""},
		{`{"key":"a"*9, "data":"b"}`, ""},
		{`{"key":__import__("os").system("true"), "data":"b"}`, ""},
		{`("key","a"), ("data","b")`, ""},
		{`["key","a","data","b"]`, ""},
		{`{"key":"a', "data":"b"}`, ""},
		{`{"key":"\q", "data":"b"}`, ""},
		{`{"key":"\101", "data":"b"}`, ""},
		{`{"key":"\x4", "data":"b"}`, ""},
		{`{"key":"\x4g", "data":"b"}`, ""},
		{`{"key":"\x80", "data":"b"}`, ""},
		{`{"key":"\u00e9", "data":"b"}`, ""},
		{`{"key":"\UFFFFFFFF", "data":"b"}`, ""},
		{`{"key":"é", "data":"b"}`, ""},
		{"{\"key\":\"a\nb\", \"data\":\"b\"}", ""},
		{"{\"key\":\"a\x00\", \"data\":\"b\"}", ""},
		{"{\"key\":\t\"a\", \"data\":\"b\"}", ""},
		{`{"key":"a", "data":"b\`, ""},
		{`{"key":"a", "data":"b\"}`, ""},
	} {
		a, b, ok := parseLiteral([]byte(c.src), "key", "data")
		if got := string(a) + "|" + string(b); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s: %q %v, want %q", c.src, got, ok, c.want)
		}
	}
}

// quote writes a string as the scripts' form does.
func quote(b []byte) string {
	var s strings.Builder
	s.WriteByte('"')
	for _, c := range b {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			fmt.Fprintf(&s, `\x%02x`, c)
		} else {
			s.WriteByte(c)
		}
	}
	s.WriteByte('"')
	return s.String()
}

// What is accepted means the same when it is written anew, and the source is not changed.
func FuzzLiteral(f *testing.F) {
	for _, src := range []string{
		`{"key":"a", "data":"b"}`, `{'data': 'it\'s', "key":"\x41\u0042\\"}`, `{"key":"a", "data":"b",}`, `{"key":"a" "data":"b"}`, `{"key":"\`,
	} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		before := string(src)
		a, b, ok := parseLiteral(src, "key", "data")
		if string(src) != before {
			t.Fatalf("%q became %q", before, src)
		}
		if !ok {
			return
		}
		anew := fmt.Sprintf(`{"key":%s, "data":%s}`, quote(a), quote(b))
		a2, b2, ok := parseLiteral([]byte(anew), "key", "data")
		if !ok || string(a2) != string(a) || string(b2) != string(b) {
			t.Fatalf("%q is %q and %q, and %s is %q and %q", before, a, b, anew, a2, b2)
		}
	})
}
