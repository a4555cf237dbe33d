package gossip

import (
	"bytes"

	"github.com/hashicorp/memberlist"
)

// A delegate tells memberlist what this member announces. There is nothing else to gossip.
type delegate struct{ g *Group }

func (d *delegate) NodeMeta(limit int) []byte {
	if b := d.g.meta(); len(b) <= limit {
		return b
	}
	return nil // Register has refused it
}

func (*delegate) NotifyMsg([]byte)                           {}
func (*delegate) GetBroadcasts(overhead, limit int) [][]byte { return nil }
func (*delegate) LocalState(join bool) []byte                { return nil }
func (*delegate) MergeRemoteState(buf []byte, join bool)     {}

// events keep what the others announce. memberlist calls them under its locks, and lends the Node for the time of the call.
type events struct {
	g    *Group
	self string
}

func (e *events) NotifyJoin(n *memberlist.Node)   { e.set(n.Name, n.Meta) }
func (e *events) NotifyUpdate(n *memberlist.Node) { e.set(n.Name, n.Meta) }
func (e *events) NotifyLeave(n *memberlist.Node)  { e.set(n.Name, nil) }

func (e *events) set(name string, meta []byte) {
	if name == e.self {
		return
	}
	e.g.mu.Lock()
	defer e.g.mu.Unlock()
	if len(meta) == 0 {
		delete(e.g.others, name)
	} else {
		e.g.others[name] = bytes.Clone(meta)
	}
	e.g.notifyLocked()
}
