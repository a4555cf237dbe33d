package rpcprom

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// Options of Metrics. The zero value will do.
type Options struct {
	// Methods are those that a server tells apart; all others are "_OTHER". Default: the first 500 whose handlers it runs.
	Methods []string
	// Buckets of the histograms, in seconds. Default: 50 us to 10 s.
	Buckets []float64
	// Labels are those of every metric, such as the name of a listener.
	Labels prometheus.Labels
}

// mostMethods bounds the names that a server learns by itself, and other stands for the rest.
const (
	mostMethods = 500
	other       = "_OTHER"
)

// Metrics are a prometheus.Collector: register it once. Any number of clients, servers, listeners and sessions may share it, and
// all methods may be called by many goroutines at once.
type Metrics struct {
	client, server *side
	failed         *prometheus.CounterVec
	all            []prometheus.Collector

	sessions *sessions

	fixed bool       // which methods are told apart is said by Options
	mu    sync.Mutex // protects known
	known map[string]bool
}

// A side is what is counted of clients, or of servers.
type side struct {
	calls    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
	messages *prometheus.CounterVec
}

// New returns metrics that nobody has registered yet.
func New(opts Options) *Metrics {
	if len(opts.Buckets) == 0 {
		opts.Buckets = []float64{0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
	}
	m := &Metrics{known: make(map[string]bool), fixed: opts.Methods != nil}
	for _, name := range opts.Methods {
		m.known[name] = true
	}
	m.client, m.server = m.side("client", opts), m.side("server", opts)
	m.failed = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sealmux_handshakes_failed_total",
		Help: "Connections to listeners that did not become sessions.", ConstLabels: opts.Labels}, []string{"reason"})
	m.sessions = newSessions(opts.Labels)
	m.all = append(m.all, m.failed, m.sessions)
	return m
}

func (m *Metrics) side(name string, opts Options) *side {
	counter := func(what, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sealmux_" + name + "_" + what, Help: help, ConstLabels: opts.Labels}, labels)
	}
	s := &side{
		calls: counter("calls_total", "Calls and streams that have ended.", "method", "form", "code", "outcome"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sealmux_" + name + "_call_seconds",
			Help: "How long calls and streams took.", Buckets: opts.Buckets, ConstLabels: opts.Labels}, []string{"method", "form"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sealmux_" + name + "_in_flight",
			Help: "Calls and streams in progress.", ConstLabels: opts.Labels}),
		messages: counter("messages_total", "Messages of streams.", "direction"),
	}
	m.all = append(m.all, s.calls, s.seconds, s.inFlight, s.messages)
	return s
}

// Describe is a prometheus.Collector's.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all {
		c.Describe(ch)
	}
}

// Collect is a prometheus.Collector's.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all {
		c.Collect(ch)
	}
}

// name is a server's method as a label. One whose handler has run is remembered: whom an interceptor refuses can name what he likes.
func (m *Metrics) name(method string, outcome rpc.Outcome) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.known[method]:
		return method
	case m.fixed || len(m.known) >= mostMethods || outcome != rpc.Executed:
		return other
	}
	m.known[method] = true
	return method
}

// done counts one that has ended. It is in flight until it is counted.
func (s *side) done(method, form string, began time.Time, code rpc.Code, outcome rpc.Outcome) {
	defer s.inFlight.Dec()
	method = strings.ToValidUTF8(method, "?") // Prometheus panics at anything else
	s.calls.WithLabelValues(method, form, code.String(), outcome.String()).Inc()
	s.seconds.WithLabelValues(method, form).Observe(time.Since(began).Seconds())
}

var _ prometheus.Collector = (*Metrics)(nil)

// What Listener returns is for rpc.Serve.
var _ rpc.Listener[*transport.Session] = (*listener)(nil)
