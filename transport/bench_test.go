package transport

import (
	"fmt"
	"io"
	"testing"
)

func BenchmarkRecord(b *testing.B) {
	for _, size := range []int{16, 1 << 10, maxData} {
		b.Run(fmt.Sprint("bytes=", size), func(b *testing.B) {
			secret := testSecret()
			out, in := newCipherState(append([]byte(nil), secret...)), newCipherState(secret)
			out.hardRecords, in.hardRecords = 1<<62, 1<<62
			rec := make([]byte, recordPrefix+size+tagSize)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				rec[recordHeader] = recordData
				out.seal(rec)
				if _, _, err := in.open(rec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Both sides of a mutual handshake, RSA-2048, over TCP, with the session and its end.
func BenchmarkHandshake(b *testing.B) {
	for _, resumed := range []bool{false, true} {
		b.Run(fmt.Sprint("resumed=", resumed), func(b *testing.B) {
			client, server := configs()
			server.TicketKeys = NewTicketKeys()
			if resumed {
				client.Tickets = NewTicketCache(1)
			}
			session := func() bool {
				x, y := tcpPair(b)
				cs, ss, cerr, serr := shake(x, y, client, server)
				if cerr != nil || serr != nil {
					b.Fatal(cerr, serr)
				}
				cs.Close() // which takes the ticket
				ss.Close()
				return cs.Resumed()
			}
			session()
			b.ReportAllocs()
			for b.Loop() {
				if session() != resumed {
					b.Fatal("resumed, or not, as it should not be")
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	cs, ss := sessions(b)
	b.ReportAllocs()
	for b.Loop() {
		o, p := streams(b, cs, ss)
		o.Close()
		p.Close()
	}
}

// One stream, one way.
func BenchmarkBulk(b *testing.B) {
	cs, ss := sessions(b)
	o, p := streams(b, cs, ss)
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	go io.Copy(io.Discard, p)
	for b.Loop() {
		if _, err := o.Write(data); err != nil {
			b.Fatal(err)
		}
	}
}

// 16 bytes there and back on one stream.
func BenchmarkPingPong(b *testing.B) {
	cs, ss := sessions(b)
	o, p := streams(b, cs, ss)
	go io.Copy(p, p)
	buf := make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(o, buf); err != nil {
			b.Fatal(err)
		}
	}
}
