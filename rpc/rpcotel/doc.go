// Package rpcotel tells OpenTelemetry of the calls and streams that a rpc.Client makes or a rpc.Server answers: a span for each,
// in one trace from side to side, and how long they took.
//
//	client := rpc.NewClient(session, rpc.Options{Interceptors: []rpc.Interceptor{rpcotel.Client(rpcotel.Options{})}})
//	server := rpc.NewServer(rpc.Options{Interceptors: []rpc.Interceptor{rpcotel.Server(rpcotel.Options{})}})
//
// It depends on OpenTelemetry's API alone. It is a module of its own, so that nobody pays for it who does not import it. On a cluster.Client,
// put it into Options.RPC: each attempt at a call has a span then.
//
// # What is told
//
// By the semantic conventions for RPC, version 1.43. A span is named after its method, or "sealmux" if that is "_OTHER", and has
//
//	rpc.system.name            "sealmux"
//	rpc.method                 the method; on a server "_OTHER" for one that it does not tell apart, and rpc.method_original
//	rpc.response.status_code   the rpc.Code's name, "OK" if it went well
//	error.type                 the same, if it failed; "panic" for a handler that panicked
//	sealmux.outcome            of one that failed: whether its handler can have run (rpc.Outcome)
//	sealmux.messages.sent, .received   of streams
//	network.peer.address, .port   on a server of a *transport.Session
//
// and Options.Attributes, such as server.address on a client. It ends as an error if the call failed; on a server only if that is the
// server's fault (Unknown, DeadlineExceeded, Unimplemented, Internal, Unavailable, DataLoss). The histograms
// rpc.client.call.duration and rpc.server.call.duration, in seconds, have the first four, sealmux.outcome and Options.Attributes;
// sealmux.client.active and sealmux.server.active count what is in progress.
//
// A span of a stream ends, once, when Recv has told how the stream ended, or when it is given up: by Close, or by its context. Then its
// code is Canceled or DeadlineExceeded. Connections (OpenConn) have no spans: what goes over them is not known here.
//
// The trace context goes with the header, as traceparent and tracestate (W3C), unless there is no room left in that. A server takes
// what its client says, whether to sample included: it is as trustworthy as the client. Where clients are strangers, set a sampler
// that does not follow a remote parent.
//
// What a stranger calls must not fill a server's memory with names: a server tells Options.Methods apart or, if there are none named,
// the first 500 whose handlers it ran; calls that an interceptor refused are "_OTHER" until the first that it did not.
//
// Nothing here has a goroutine. A call of 16 bytes over a pipe in memory, where nothing else takes time, takes 1.5 times as long with it
// and no SDK, and 3.2 times with an SDK that samples everything and exports nothing: about 8 us a side more (BenchmarkCall).
package rpcotel
