package inspect

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
)

// Blocks of pcapng with something else are passed over, in either order of bytes; what would be held without bound is refused.
func TestBlocks(t *testing.T) {
	all := session(t, 1400)
	whole := pcapngOf(t, layers.LinkTypeEthernet, false, all)
	section := binary.LittleEndian.Uint32(whole[4:])
	var order interface {
		binary.ByteOrder
		binary.AppendByteOrder
	} = binary.LittleEndian
	block := func(kind, size uint32, body int) []byte {
		b := order.AppendUint32(order.AppendUint32(nil, kind), size)
		return order.AppendUint32(append(b, make([]byte, body)...), size)
	}
	with := func(blocks ...[]byte) []byte {
		return slices.Concat(whole[:section], bytes.Join(blocks, nil), whole[section:])
	}
	const names, secrets, statistics = 4, 10, 5
	wholeSession(t, with(block(names, 1<<20+12, 1<<20), block(secrets, 12, 0), block(statistics, 24, 12)), heading4)
	damaged := func(capture []byte, why string) {
		t.Helper()
		out, said, failed := inspected(bytes.NewReader(capture), Options{})
		if want := "the capture - is damaged: " + why; out != "" || !strings.HasPrefix(said, want) || !failed {
			t.Errorf("failed: %v, %s%s", failed, said, out)
		}
	}
	damaged(with(block(secrets, 0, 0)), "a block of it has an impossible length, ")
	damaged(with(block(secrets, 13, 1)), "a block of it has an impossible length, ")
	damaged(with(block(secrets, 1<<31, 0)), "it ends in the middle of a packet, ")
	damaged(with(block(blockEnhanced, 1<<31, 0)), "a packet of it is too long, ")
	damaged(with(bytes.Repeat(block(blockInterface, 20, 8), maxInterfaces+1)), "it describes too many interfaces, ")
	large := block(blockEnhanced, 32+8, 20+8)
	order.PutUint32(large[20:], 1<<31) // more than the block has
	damaged(slices.Concat(whole[:section], block(blockInterface, 20, 8), bytes.Repeat(large, 100_000)), "a packet of it is too long, ")

	// Each packet has that much for itself, each section so many interfaces.
	many := slices.Repeat(all, 400)
	if _, said, failed := inspected(bytes.NewReader(pcapngOf(t, layers.LinkTypeEthernet, false, many)), Options{}); said != "" || failed {
		t.Errorf("failed: %v, %s", failed, said)
	}
	some := append(slices.Clone(whole[:section]), bytes.Repeat(block(blockInterface, 20, 8), maxInterfaces)...)
	wholeSession(t, slices.Concat(some, some, whole), heading4)

	// A pcap file may claim any length, too.
	claims := pcapOf(t, all)
	binary.LittleEndian.PutUint32(claims[16:], 1<<32-1)
	wholeSession(t, claims, heading4)
	binary.LittleEndian.PutUint32(claims[24+8:], 1<<30)
	binary.LittleEndian.PutUint32(claims[24+12:], 1<<30)
	damaged(claims, "capture length exceeds snap length")

	order = binary.BigEndian
	big := order.AppendUint16(order.AppendUint32(block(blockSection, 28, 0)[:8], 0x1a2b3c4d), 1)
	big = order.AppendUint32(order.AppendUint64(append(big, 0, 0), 1<<64-1), 28)
	ethernet := block(blockInterface, 20, 8)
	ethernet[9] = 1
	capture := slices.Concat(big, block(names, 16, 4), ethernet)
	for _, s := range all {
		packet := s.packet(t, layers.LinkTypeEthernet, false)
		for len(packet)%4 != 0 {
			packet = append(packet, 0)
		}
		b := block(blockEnhanced, uint32(32+len(packet)), 20+len(packet))
		micros := uint64(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixMicro())
		order.PutUint32(b[12:], uint32(micros>>32))
		order.PutUint32(b[16:], uint32(micros))
		order.PutUint32(b[20:], uint32(len(packet)))
		order.PutUint32(b[24:], uint32(len(packet)))
		copy(b[28:], packet)
		capture = append(capture, b...)
	}
	wholeSession(t, capture, heading4)
}
