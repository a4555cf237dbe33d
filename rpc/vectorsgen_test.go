package rpc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/sealmux/sealmux/internal/vectors"
)

// The cases of testdata/vectors are described in this file and in vectorsmessage_test.go, vectorsbody_test.go,
// vectorscallee_test.go and vectorscaller_test.go. What the side under test is to answer is written down there, not recorded.

type generator struct {
	t     testing.TB
	cases map[string]*vectors.Case
}

func generateVectors(t testing.TB) map[string]*vectors.Case {
	g := &generator{t: t, cases: make(map[string]*vectors.Case)}
	g.messages()
	g.refusedMessages()
	g.bodies()
	g.badBodies()
	g.typedBodies()
	g.calleeCalls()
	g.calleeBodies()
	g.calleeStreams()
	g.calleeSession()
	g.callerCalls()
	g.callerParts()
	g.callerStreams()
	g.callerConns()
	return maps.Clone(g.cases)
}

// A part is a block, or headers, of a case.
type part struct {
	headers []vectors.Header
	block   string
	data    []byte
}

func in(b ...[]byte) part      { return part{block: "in", data: bytes.Join(b, nil)} }
func out(b ...[]byte) part     { return part{block: "out", data: bytes.Join(b, nil)} }
func onFirst(b ...[]byte) part { return part{block: "first", data: bytes.Join(b, nil)} }
func also(name, value string) part {
	return part{headers: []vectors.Header{{Name: name, Value: value}}}
}
func outcomeOf(code, did int) []part {
	return []part{also("code", fmt.Sprint(code)), also("outcome", fmt.Sprint(did))}
}

// add makes a case of its parts.
func (g *generator) add(name, title, role, expect, rule string, parts ...part) {
	name = role + "-" + name
	if g.cases[name] != nil {
		g.t.Fatalf("the case %s is there twice", name)
	}
	c := new(vectors.Case)
	for _, h := range [][2]string{{"title", title}, {"role", role}, {"expect", expect}, {"rule", rule}} {
		c.Add(h[0], h[1])
	}
	for _, p := range parts {
		c.Headers = append(c.Headers, p.headers...)
		if p.block != "" {
			c.AddBlock(p.block, p.data)
		}
	}
	for i := range c.Blocks {
		shorten(c, i)
	}
	g.cases[name] = c
}

// longRun is from how many equal bytes on a header tells of them.
const longRun = 512

// shorten takes long runs of one byte out of a block, and says so.
func shorten(c *vectors.Case, block int) {
	var short []byte
	data := c.Blocks[block].Data
	for at := 0; at < len(data); {
		n := 1
		for at+n < len(data) && data[at+n] == data[at] {
			n++
		}
		if n < longRun {
			short = append(short, data[at:at+n]...)
		} else { // the lines are followed in order, so that the offset is that of the whole block
			c.Add("insert", fmt.Sprintf("%d %d %d %02x", block+1, at, n, data[at]))
		}
		at += n
	}
	c.Blocks[block].Data = short
}

// unhex reads what is written for people: spaces mean nothing.
func (g *generator) unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		g.t.Fatalf("%s: %v", s, err)
	}
	return b
}

// framed is a message of that payload.
func framed(payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...)
}

// What the cases are made of.
var (
	goaway   = appendGoaway(nil)
	ending   = appendEnd(nil)
	done     = appendDone(nil, nil)
	none     = appendHeader(nil, nil)
	nilBody  = []byte{0xc0}
	longText = strings.Repeat("x", 70_000)
)

func callOf(id uint64, method string, body string) []byte {
	return appendCall(nil, id, method, 0, []byte(body))
}
func replyOf(id uint64, body string) []byte { return appendReply(nil, id, []byte(body)) }
func cancelOf(id uint64) []byte             { return appendCancel(nil, id) }
func itemOf(body string) []byte             { return append(appendItem(nil, 0, len(body)), body...) }
func partOf(id uint64, piece string) []byte { return appendPart(nil, id, nil, []byte(piece)) }
func textOf(s string) string                { return string(appendString(nil, s)) }

func openOf(id uint64, method string, form byte) []byte {
	return appendOpen(nil, id, &callHead{method: method, form: form})
}

func errorMessage(id uint64, code Code, outcome Outcome, text string) []byte {
	return appendError(nil, id, &wireStatus{code: code, outcome: outcome, text: text})
}

// echoOf is what the server under test answers.
func echoOf(body string) []byte {
	b := []byte(body)
	head, err := next(b, 0)
	if err != nil {
		panic(err)
	}
	data := EchoPrefix + string(b[head.start:head.end])
	if head.kind == tokBin {
		return appendBin(nil, data)
	}
	return appendString(nil, data)
}

func echoed(id uint64, body string) []byte { return appendReply(nil, id, echoOf(body)) }
func echoedItem(body string) []byte        { return itemOf(string(echoOf(body))) }
