package rpcprom

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// Config returns a copy of a Listener's Config that counts the handshakes that fail, besides what its HandshakeFailed does.
func (m *Metrics) Config(cfg *transport.Config) *transport.Config {
	own := *cfg
	own.HandshakeFailed = func(from net.Addr, err error) {
		m.failed.WithLabelValues(reason(err, failures)).Inc()
		if cfg.HandshakeFailed != nil {
			cfg.HandshakeFailed(from, err)
		}
	}
	return &own
}

// Listener counts the sessions of a Listener, for rpc.Serve.
func (m *Metrics) Listener(l rpc.Listener[*transport.Session]) rpc.Listener[*transport.Session] {
	return &listener{l, m}
}

type listener struct {
	rpc.Listener[*transport.Session]
	m *Metrics
}

// Accept is a rpc.Listener's.
func (l *listener) Accept(ctx context.Context) (*transport.Session, error) {
	s, err := l.Listener.Accept(ctx)
	if err == nil {
		l.m.sessions.add(s, "server")
	}
	return s, err
}

// Dialled counts a session that this side has dialled, until it ends.
func (m *Metrics) Dialled(s *transport.Session) { m.sessions.add(s, "client") }

// A label is a value of reason or cause, and the error that it stands for.
type label struct {
	name string
	err  error
}

var (
	failures = []label{{"unknown_key", transport.ErrUnknownKey}, {"unauthorized", transport.ErrUnauthorized}, {"not_sealmux", transport.ErrNotSealmux},
		{"version", transport.ErrVersion}, {"protocol", transport.ErrApplicationProtocol}, {"busy", transport.ErrBusy},
		{"timeout", transport.ErrHandshakeTimeout}, {"truncated", transport.ErrTruncated}, {"handshake", transport.ErrHandshake}}
	ends = []label{{"closed", transport.ErrSessionClosed}, {"peer_closed", transport.ErrPeerClosed}, {"truncated", transport.ErrTruncated},
		{"record", transport.ErrRecord}, {"misbehaved", transport.ErrMisbehaved}, {"revoked", transport.ErrRevoked},
		{"unauthorized", transport.ErrUnauthorized}, {"silent", transport.ErrPeerSilent}, {"stalled", transport.ErrWriteStalled}}
)

func reason(err error, labels []label) string {
	for _, l := range labels {
		if errors.Is(err, l.err) {
			return l.name
		}
	}
	return "other"
}

// A session is what is looked at of a *transport.Session.
type session interface {
	Err() error
	Resumed() bool
}

// sessions are those that were not seen to have ended. It is a prometheus.Collector.
type sessions struct {
	open  *prometheus.GaugeVec
	begun *prometheus.CounterVec
	ended *prometheus.CounterVec

	mu    sync.Mutex         // protects all below
	live  map[session]string // and their sides
	sweep int                // when there are more, those that have ended are dropped
}

// leastSweep is how many sessions may be held before they are looked through: without a collection nobody else would.
const leastSweep = 1024

func newSessions(labels prometheus.Labels) *sessions {
	return &sessions{live: make(map[session]string), sweep: leastSweep,
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sealmux_sessions", Help: "Sessions that are open.",
			ConstLabels: labels}, []string{"side"}),
		begun: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sealmux_sessions_total", Help: "Sessions that have begun.",
			ConstLabels: labels}, []string{"side", "resumed"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sealmux_sessions_ended_total", Help: "Sessions that have ended.",
			ConstLabels: labels}, []string{"side", "cause"})}
}

func (s *sessions) add(one session, side string) {
	s.begun.WithLabelValues(side, map[bool]string{false: "no", true: "yes"}[one.Resumed()]).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[one] = side
	if len(s.live) > s.sweep {
		s.lookLocked()
		s.sweep = max(leastSweep, 2*len(s.live))
	}
}

// lookLocked drops those that have ended, and returns how many have not, by side.
func (s *sessions) lookLocked() map[string]int {
	open := map[string]int{"client": 0, "server": 0}
	for one, side := range s.live {
		if err := one.Err(); err != nil {
			s.ended.WithLabelValues(side, reason(err, ends)).Inc()
			delete(s.live, one)
			continue
		}
		open[side]++
	}
	return open
}

// Describe is a prometheus.Collector's.
func (s *sessions) Describe(ch chan<- *prometheus.Desc) {
	s.open.Describe(ch)
	s.begun.Describe(ch)
	s.ended.Describe(ch)
}

// Collect is a prometheus.Collector's.
func (s *sessions) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	for side, n := range s.lookLocked() {
		s.open.WithLabelValues(side).Set(float64(n))
	}
	s.mu.Unlock()
	s.open.Collect(ch)
	s.begun.Collect(ch)
	s.ended.Collect(ch)
}
