package gossip

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Errors, found with errors.Is.
var (
	// ErrOptions: the Options cannot work; the text says what to set.
	ErrOptions = errors.New("gossip: unusable options")
	// ErrTooMuch: a member would announce more than fits in what gossip carries of each. Use fewer or shorter names, attributes and pins.
	ErrTooMuch = errors.New("gossip: more than 512 bytes to announce")
	// ErrClosed: the Group was closed.
	ErrClosed = errors.New("gossip: the group is closed")
)

// Options say where a member listens, whom it knows, and what they share.
type Options struct {
	// Bind is the HOST:PORT to gossip on, by UDP and TCP. Default ":7946"; port 0 is any that is free.
	Bind string
	// Advertise is the HOST:PORT that others reach it at, if that is another, behind a translator of addresses for example.
	Advertise string
	// Seeds are addresses of members. One must answer; the first member of all has none.
	Seeds []string
	// Key seals the gossip: 16, 24 or 32 bytes from crypto/rand, the same for all members. Plaintext says that there is none, for a
	// network that nobody else is on.
	Key       []byte
	Plaintext bool
	// Name is unique in the group. Default: the host's name and a random number.
	Name string
	// MaxEndpoints is how many endpoints of a service are told at most. Default 10,000.
	MaxEndpoints int
	// Tune, if set, may change memberlist's configuration, which is that for local networks, before it is used: the times of its
	// probes for example. Delegates, keys and logs are this package's.
	Tune func(*memberlist.Config)
	// Logger gets what memberlist logs, at level Debug, and what members announce that cannot be read, at level Warn. Default: nothing.
	Logger *slog.Logger
}

// rejoinEvery is how often a member that is alone looks for the seeds.
const rejoinEvery = 10 * time.Second

// A Group is this process's membership. All methods may be called by many goroutines at once.
type Group struct {
	opts Options
	list *memberlist.Memberlist

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once

	updating sync.Mutex // one announcement at a time

	mu      sync.Mutex // protects all below; nothing blocks under it
	own     map[*lease]announced
	others  map[string][]byte // what other members announce, by their names
	changed chan struct{}     // closed at the next change
}

// Join makes this process a member. It waits until a seed has answered, or ctx ends.
func Join(ctx context.Context, opts Options) (*Group, error) {
	cfg, err := opts.config()
	if err != nil {
		return nil, err
	}
	g := &Group{opts: opts, own: make(map[*lease]announced), others: make(map[string][]byte), changed: make(chan struct{})}
	if g.opts.Logger == nil {
		g.opts.Logger = slog.New(slog.DiscardHandler)
	}
	if g.opts.MaxEndpoints <= 0 {
		g.opts.MaxEndpoints = 10_000
	}
	cfg.Delegate, cfg.Events = &delegate{g}, &events{g, cfg.Name}
	if cfg.Logger = log.New(io.Discard, "", 0); opts.Logger != nil {
		cfg.Logger = slog.NewLogLogger(opts.Logger.Handler(), slog.LevelDebug)
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	if g.list, err = memberlist.Create(cfg); err != nil {
		g.cancel()
		return nil, fmt.Errorf("gossip: %w", err)
	}
	if len(opts.Seeds) > 0 {
		if err := g.seek(ctx); err != nil {
			g.Close()
			return nil, err
		}
	}
	g.wg.Go(g.rejoin)
	return g, nil
}

// config is memberlist's, without what needs the Group.
func (o *Options) config() (*memberlist.Config, error) {
	cfg := memberlist.DefaultLANConfig()
	bind := o.Bind
	if bind == "" {
		bind = ":7946"
	}
	var err error
	if cfg.BindAddr, cfg.BindPort, err = hostPort(bind); err != nil {
		return nil, err
	}
	if cfg.BindAddr == "" {
		cfg.BindAddr = "0.0.0.0"
	}
	cfg.AdvertisePort = cfg.BindPort
	if o.Advertise != "" {
		if cfg.AdvertiseAddr, cfg.AdvertisePort, err = hostPort(o.Advertise); err != nil {
			return nil, err
		}
	}
	switch n := len(o.Key); {
	case n == 0 && !o.Plaintext:
		return nil, fmt.Errorf("%w: set Key, the same 32 random bytes for all members", ErrOptions)
	case n > 0 && o.Plaintext:
		return nil, fmt.Errorf("%w: a Key, and Plaintext; which?", ErrOptions)
	case n != 0 && n != 16 && n != 24 && n != 32:
		return nil, fmt.Errorf("%w: Key must have 16, 24 or 32 bytes", ErrOptions)
	}
	if cfg.Name = o.Name; o.Name == "" {
		host, _ := os.Hostname()
		cfg.Name = host + "-" + rand.Text()[:10]
	}
	if o.Tune != nil {
		o.Tune(cfg)
	}
	cfg.SecretKey, cfg.LogOutput = o.Key, nil
	cfg.GossipVerifyIncoming, cfg.GossipVerifyOutgoing = true, true
	return cfg, nil
}

func hostPort(addr string) (string, int, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("%w: %q is not HOST:PORT", ErrOptions, addr)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%w: %q has no port", ErrOptions, addr)
	}
	return host, int(port), nil
}

// seek asks the seeds, which memberlist does without a context.
func (g *Group) seek(ctx context.Context) error {
	done := make(chan error, 1)
	g.wg.Go(func() {
		_, err := g.list.Join(g.opts.Seeds)
		done <- err
	})
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("gossip: no seed of %v answers as a member with this key: %w", g.opts.Seeds, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("gossip: %w", ctx.Err())
	}
}

// rejoin finds the others again when all of them were lost.
func (g *Group) rejoin() {
	tick := time.NewTicker(rejoinEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-g.ctx.Done():
			return
		}
		if len(g.opts.Seeds) > 0 && g.list.NumMembers() == 1 {
			if _, err := g.list.Join(g.opts.Seeds); err != nil {
				g.opts.Logger.Debug("gossip: alone", "error", err)
			}
		}
	}
}

// Addr is where this member gossips: HOST:PORT, for the Seeds of others.
func (g *Group) Addr() string { return g.list.LocalNode().Address() }

// Close leaves the group, so that the others know at once, and waits for all goroutines. What was registered is gone. It may be
// called more than once; the error of the first call is that of leaving.
func (g *Group) Close() (err error) {
	g.once.Do(func() {
		g.cancel()
		err = errors.Join(g.list.Leave(time.Second), g.list.Shutdown())
		g.wg.Wait()
		g.notify()
	})
	return err
}

// notify wakes who watches.
func (g *Group) notify() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.notifyLocked()
}

func (g *Group) notifyLocked() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// An announced is what a member says of one endpoint.
type announced struct {
	Service    string            `json:"s"`
	Addr       string            `json:"a"`
	Name       string            `json:"n,omitempty"`
	Weight     int               `json:"w,omitempty"`
	Pins       []string          `json:"p,omitempty"`
	Attributes map[string]string `json:"t,omitempty"`
}

// meta is all that this member announces.
func (g *Group) meta() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return encode(g.own)
}

func encode(own map[*lease]announced) []byte {
	list := make([]announced, 0, len(own))
	for _, a := range own {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b announced) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Addr, b.Addr))
	})
	if len(list) == 0 {
		return nil
	}
	text, err := json.Marshal(list)
	if err != nil {
		panic(err) // text, numbers and maps of text
	}
	return text
}
