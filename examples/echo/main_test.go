package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	var out strings.Builder
	if err := run(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	for _, want := range []string{
		`^服务端已收到数据: hello\n服务端已收到数据: 你好，世界\n服务端已收到数据: a#b##\n服务端已收到数据: \n`,
		`\nTCP connections: 1\n`,
		fmt.Sprintf(`\nraw streams: +%d\n`, rawStreams),
		fmt.Sprintf(`\ncalls: +%d from %d callers at once\n`, callers*callsEach+4, callers),
		`\nbytes: +\d{8} there and back\n`, // 16 MiB on the raw streams, and the calls
		`\nmismatches: +0\n`,
		`\nchannel: +.*RSA-OAEP.*ML-KEM-768.*AES-256-GCM\n`,
		`\nserver: +SHA256:\S{43}\nclient: +SHA256:\S{43}\n$`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("the output lacks %s", want)
		}
	}
}

// TestMismatch shows that a wrong reply does not pass.
func TestMismatch(t *testing.T) {
	var sum tally
	sum.compare([]byte("a"), []byte("xa"), []byte("xa"))
	sum.compare([]byte("a"), []byte("xb"), []byte("xa"))
	if n, bytes := sum.mismatches.Load(), sum.bytes.Load(); n != 1 || bytes != 6 {
		t.Errorf("%d mismatches in %d bytes; want 1 in 6", n, bytes)
	}
}
