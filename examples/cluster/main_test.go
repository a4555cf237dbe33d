package main

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	var out strings.Builder
	if err := run(context.Background(), &out); err != nil {
		t.Fatal(err, "\n", out.String())
	}
	want := regexp.MustCompile(`^(server [123] was drained after \d+ calls\n){3}` +
		`(server [123], restarted had [1-9]\d{2,} calls\n){3}calls \d{3,}, failed 0, retried \d+\n$`)
	if !want.MatchString(out.String()) {
		t.Errorf("got:\n%s", out.String())
	}
}
