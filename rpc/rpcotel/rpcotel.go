package rpcotel

import (
	"context"
	"io"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/rpcconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/sealmux/sealmux/rpc"
)

const scope = "github.com/sealmux/sealmux/rpc/rpcotel"

// Options say where spans and measurements go. The zero value is OpenTelemetry's global providers.
type Options struct {
	// TracerProvider and MeterProvider get the spans and the measurements. Default: OpenTelemetry's global ones.
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	// Propagator writes the trace context into headers and reads it. Default: W3C trace context.
	Propagator propagation.TextMapPropagator
	// Methods are those that a server tells apart; all others are "_OTHER". Default: the first 500 whose handlers it runs.
	Methods []string
	// Attributes are those of every span and measurement, such as server.address.
	Attributes []attribute.KeyValue
}

// mostMethods bounds the names that a server learns by itself.
const mostMethods = 500

// other stands for methods that are not told apart (semantic conventions, rpc.method).
const other = "_OTHER"

// system is rpc.system.name, and the name of spans whose method is other.
const system = "sealmux"

// An observer is what the interceptors of one side share. Any number of goroutines use it.
type observer struct {
	opts   Options
	tracer trace.Tracer
	took   metric.Float64Histogram
	active metric.Int64UpDownCounter
	fixed  metric.MeasurementOption // of active
	kind   trace.SpanStartOption

	handler bool // it is a server's

	mu    sync.Mutex // protects known
	known map[string]bool
}

func newObserver(opts Options, side string) *observer {
	if opts.TracerProvider == nil {
		opts.TracerProvider = otel.GetTracerProvider()
	}
	if opts.MeterProvider == nil {
		opts.MeterProvider = otel.GetMeterProvider()
	}
	if opts.Propagator == nil {
		opts.Propagator = propagation.TraceContext{}
	}
	opts.Attributes = append([]attribute.KeyValue{semconv.RPCSystemNameKey.String(system)}, opts.Attributes...)
	o := &observer{opts: opts, tracer: opts.TracerProvider.Tracer(scope), known: make(map[string]bool)}
	for _, name := range opts.Methods {
		o.known[name] = true
	}
	o.fixed = metric.WithAttributeSet(attribute.NewSet(opts.Attributes...))
	meter := opts.MeterProvider.Meter(scope)
	// An instrument that cannot be made is OpenTelemetry's to report; what it returns beside the error does nothing.
	if side == "client" {
		m, err := rpcconv.NewClientCallDuration(meter)
		report(err)
		o.took, o.kind = m.Inst(), trace.WithSpanKind(trace.SpanKindClient)
	} else {
		m, err := rpcconv.NewServerCallDuration(meter)
		report(err)
		o.took, o.kind, o.handler = m.Inst(), trace.WithSpanKind(trace.SpanKindServer), true
	}
	var err error
	o.active, err = meter.Int64UpDownCounter("sealmux."+side+".active", metric.WithUnit("{call}"),
		metric.WithDescription("Calls and streams in progress."))
	report(err)
	return o
}

func report(err error) {
	if err != nil {
		otel.Handle(err)
	}
}

// A watch is one call or stream in progress. end may be called by several goroutines.
type watch struct {
	o      *observer
	ctx    context.Context // has the span
	span   trace.Span
	method string
	began  time.Time

	handler bool // it is a server's
	counted bool // by active
	once    sync.Once
}

func (o *observer) begin(ctx context.Context, method string, more ...attribute.KeyValue) *watch {
	w := &watch{o: o, method: method, began: time.Now(), handler: o.handler}
	w.ctx, w.span = o.tracer.Start(ctx, method, o.kind, trace.WithTimestamp(w.began))
	if w.span.IsRecording() {
		w.span.SetAttributes(o.opts.Attributes...)
		w.span.SetAttributes(more...)
	}
	if w.counted = o.active.Enabled(ctx); w.counted {
		o.active.Add(ctx, 1, o.fixed)
	}
	return w
}

// end tells how it ended; the first to say so is believed. failed says which codes make an error of the span.
func (w *watch) end(err error, panicked bool, failed func(rpc.Code) bool, sent, received int64) {
	w.once.Do(func() {
		defer w.span.End()
		if w.counted { // it is active until it is measured
			defer w.o.active.Add(w.ctx, -1, w.o.fixed)
		}
		measured := w.o.took.Enabled(w.ctx)
		if !measured && !w.span.IsRecording() {
			return // nobody wants to know
		}
		name, outcome := w.method, rpc.OutcomeOf(err)
		switch {
		case w.handler && panicked:
			outcome = rpc.InfoFrom(w.ctx).Outcome(rpc.Internal)
		case w.handler:
			outcome = rpc.InfoFrom(w.ctx).Outcome(err)
		case panicked: // an interceptor within this one: it may have called next
			outcome = rpc.OutcomeUnknown
		}
		if w.handler {
			name = w.o.name(name, outcome)
		}
		code := rpc.CodeOf(err)
		list := append([]attribute.KeyValue{}, w.o.opts.Attributes...)
		list = append(list, semconv.RPCMethodKey.String(name))
		kind := code.String()
		if panicked {
			code, kind = rpc.Internal, "panic"
		}
		list = append(list, semconv.RPCResponseStatusCodeKey.String(code.String()))
		if err != nil || panicked {
			list = append(list, semconv.ErrorTypeKey.String(kind), attribute.String("sealmux.outcome", outcome.String()))
		}
		if name != w.method {
			w.span.SetName(system)
			w.span.SetAttributes(semconv.RPCMethodOriginalKey.String(w.method))
		}
		w.span.SetAttributes(list[len(w.o.opts.Attributes):]...)
		if sent >= 0 {
			w.span.SetAttributes(attribute.Int64("sealmux.messages.sent", sent), attribute.Int64("sealmux.messages.received", received))
		}
		if code != rpc.OK && failed(code) {
			text := "the handler panicked"
			if err != nil {
				text = err.Error()
			}
			w.span.SetStatus(codes.Error, text)
		}
		if measured {
			w.o.took.Record(w.ctx, time.Since(w.began).Seconds(), metric.WithAttributeSet(attribute.NewSet(list...)))
		}
	})
}

// name is a server's method in measurements. One whose handler has run is remembered: whom an interceptor refuses can name what he likes.
func (o *observer) name(method string, outcome rpc.Outcome) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.known[method]:
		return method
	case o.opts.Methods != nil || len(o.known) >= mostMethods || outcome != rpc.Executed:
		return other
	}
	o.known[method] = true
	return method
}

// A carrier is the metadata that a trace context travels in.
type carrier rpc.Metadata

// Get is a propagation.TextMapCarrier's.
func (c carrier) Get(key string) string { return rpc.Metadata(c).Get(key) }

// Set is a propagation.TextMapCarrier's.
func (c carrier) Set(key, value string) { rpc.Metadata(c).Set(key, value) }

// Keys is a propagation.TextMapCarrier's.
func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for key := range c {
		keys = append(keys, key)
	}
	return keys
}

// ended is how a stream ended, of which Recv has said err.
func ended(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
