package rpc

import (
	"bytes"
	"compress/flate"
	"io"
	"slices"
	"sync"
)

// maxRatio is the most that deflate makes of a byte (zlib's technical notes), and so bounds what a message can become.
const maxRatio = 1032

var (
	deflaters = sync.Pool{New: func() any {
		w, _ := flate.NewWriter(nil, flate.BestSpeed) // fails for unknown levels only
		return w
	}}
	inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}
)

// compress returns body compressed, or body and 0 if that is not smaller.
func compress(body []byte) ([]byte, byte) {
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	var buf bytes.Buffer
	buf.Grow(len(body) / 2)
	w.Reset(&buf)
	w.Write(body) // a bytes.Buffer takes everything
	w.Close()
	if buf.Len() >= len(body) {
		return body, 0
	}
	return buf.Bytes(), packed
}

// decompress returns what compress was given, if that has at most limit bytes. Its memory grows with what comes out.
func decompress(b []byte, limit int) ([]byte, error) {
	src := bytes.NewReader(b)
	r := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(r)
	r.(flate.Resetter).Reset(src, nil)
	out := make([]byte, 0, min(limit, 4*len(b))+1)
	for {
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		switch {
		case len(out) > limit:
			return nil, ErrTooLarge
		case err == io.EOF && src.Len() == 0 && len(out) > 0:
			return out, nil
		case err != nil:
			return nil, &badMessage{"not compressed as it says", -1}
		case len(out) == cap(out):
			out = slices.Grow(out, min(limit+1-len(out), len(out)))
		}
	}
}

// A packer compresses what is large enough, if both sides want it (W10).
type packer struct{ over int } // 0: never

func (p packer) pack(body []byte) ([]byte, byte) {
	if p.over == 0 || len(body) < p.over {
		return body, 0
	}
	return compress(body)
}

// unpack returns a message's body as it was before pack.
func unpack(packed bool, body []byte, opts *Options) (Raw, error) {
	switch {
	case !packed:
		return body, nil
	case opts.CompressOver == 0:
		return nil, &badMessage{"it is compressed, and Options.CompressOver is not set here", -1}
	}
	return decompress(body, opts.MaxReceive)
}
