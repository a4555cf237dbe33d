package rpc

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// HealthStatus is how a service of a Server is.
type HealthStatus string

// What Health answers.
const (
	Serving        HealthStatus = "serving"
	NotServing     HealthStatus = "not serving"
	ServiceUnknown HealthStatus = "unknown"  // of a service that SetHealth was never called for
	HealthDraining HealthStatus = "draining" // the server is about to shut down
)

// The methods that every Server has. Options.Authorize is asked about them as about any other.
var (
	// Health asks how a service is; the empty name stands for the server as a whole, which serves unless SetHealth says otherwise.
	Health = Unary[string, HealthStatus]{Name: builtIn + "Health"}
	// WatchHealth is Health now and at every change, until the server drains.
	WatchHealth = ServerStream[string, HealthStatus]{Name: builtIn + "WatchHealth"}
	// Methods lists the methods whose names begin with a prefix, and the shapes of their messages.
	Methods = Unary[string, Description]{Name: builtIn + "Methods"}
)

// health is the state behind Health. Its zero value is that of a server that serves.
type health struct {
	mu       sync.Mutex // protects all below
	services map[string]HealthStatus
	changed  chan struct{} // closed and replaced at every change; nil until somebody watches
}

// SetHealth says how a service is; the empty name stands for the server as a whole.
func (s *Server) SetHealth(service string, status HealthStatus) {
	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.services == nil {
		h.services = make(map[string]HealthStatus)
	}
	h.services[service] = status
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// healthOf returns a service's status and a channel that is closed when any changes.
func (s *Server) healthOf(service string) (HealthStatus, <-chan struct{}) {
	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed == nil {
		h.changed = make(chan struct{})
	}
	status, known := h.services[service]
	switch {
	case s.stopping.Err() != nil:
		status = HealthDraining
	case known:
	case service == "":
		status = Serving
	default:
		status = ServiceUnknown
	}
	return status, h.changed
}

func (s *Server) watchHealth(ctx context.Context, service string, send func(HealthStatus) error) error {
	last := HealthStatus("")
	for {
		status, changed := s.healthOf(service)
		if status != last {
			if err := send(status); err != nil {
				return err
			}
			last = status
		}
		if status == HealthDraining {
			return nil
		}
		select {
		case <-changed:
		case <-s.stopping.Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// builtIns are the methods of every server. They do not count as registered ones, which would end the echo.
func (s *Server) builtIns() map[string]*method {
	built := []*method{
		Health.method(func(_ context.Context, service string) (HealthStatus, error) {
			status, _ := s.healthOf(service)
			return status, nil
		}),
		WatchHealth.method(s.watchHealth),
	}
	if !s.opts.HideMethods {
		built = append(built, Methods.method(s.describe))
	}
	methods := make(map[string]*method, len(built))
	for _, m := range built {
		methods[m.name] = m
	}
	return methods
}

// describe lists the methods under a prefix, the server's own ones too.
func (s *Server) describe(_ context.Context, prefix string) (Description, error) {
	all := maps.Clone(s.built)
	maps.Copy(all, s.handlers.Load().methods)
	var types shapes
	var d Description
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if m := all[name]; strings.HasPrefix(name, prefix) {
			d.Methods = append(d.Methods, MethodInfo{name, string(m.form), types.of(m.in, m), types.of(m.out, m)})
		}
	}
	d.Types = types.list
	return d, nil
}

// of is add, for the messages of a method: any if nothing is known of them, none if there are none.
func (s *shapes) of(t reflect.Type, m *method) int {
	switch {
	case m.form == connForm:
		return -1
	case m.codec != nil:
		return s.coded(m.codec.Name())
	case t == nil:
		t = reflect.TypeFor[any]()
	}
	return s.add(t)
}
