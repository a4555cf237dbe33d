package rpc

import "context"

// Handle registers fn for a method by its name, as Server.HandleRaw does, with the request decoded and the reply encoded by
// msgpack.
//
// Req and Resp may be a string, []byte, Raw, a number, a bool, a time.Time, a struct or a pointer to one, slices and maps of
// these, any, or a type with methods for msgpack, binary or text; a Unary with a Codec takes others. A request that does not fit Req exactly (an integer out of range,
// binary for text) is refused with InvalidArgument, not executed; unknown fields are ignored. nil makes the zero value,
// and of a pointer type a pointer to it. What is decoded takes at most 100,000 times the size of the largest element
// type in memory, twice that while it grows.
//
// Handle panics as HandleRaw does, and if Req or Resp cannot be carried: channels, functions, complex numbers, interfaces
// with methods, embedded pointers, structs with fields of which none is exported.
func Handle[Req, Resp any](s *Server, method string, fn func(ctx context.Context, req Req) (Resp, error)) {
	Unary[Req, Resp]{Name: method}.Handle(s, fn)
}

// Call calls a method by its name with req and returns its reply, both of types as in Handle. Its errors are those of
// Caller.Do; besides, InvalidArgument, not sent, if req or Resp is not of a type that can be carried, and Internal,
// executed, matching ErrBadMessage, if the reply does not fit Resp.
func Call[Resp any](ctx context.Context, c Caller, method string, req any) (Resp, error) {
	return callValue[any, Resp](ctx, c, method, nil, &req)
}

// callValue is Call with a request that need not be made an any.
func callValue[Req, Resp any](ctx context.Context, c Caller, method string, codec Codec, req *Req) (resp Resp, err error) {
	var s *scratch
	client, ok := c.(*Client)
	plain := ok && len(client.opts.Interceptors) == 0 // nobody else sees the bodies
	if plain {
		s = newScratch()
		defer s.free()
		s.split = client.opts.CompressOver == 0 && outgoingOf(ctx) == noOutgoing
	}
	body, err := encodeBy(codec, s, req)
	if err == nil {
		err = carriedBy[Resp](codec)
	}
	if err != nil {
		return resp, fail(InvalidArgument, NotSent, "", err)
	}
	reply, err := roundTrip(ctx, c, method, s.before(), body)
	if err != nil {
		return resp, err
	}
	if !plain { // otherwise it was checked
		err = Check(reply)
	}
	if err == nil {
		resp, err = decodeBy[Resp](codec, reply)
	}
	if err != nil {
		var none Resp
		return none, fail(Internal, Executed, "the reply", err)
	}
	return resp, nil
}
