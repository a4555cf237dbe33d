package main

// handshakeMutants are the handshake, its messages, tickets, the gate, and who is trusted. What makes a ciphertext that is not below the modulus take as long as others is not here: only a clock sees it (TestTiming).
var handshakeMutants = []mutant{
	{"H1", "another protocol, at its first byte", "transport/exchange.go", "string(got) != magic[:len(got)]", "len(got) > 99", shakeTests},
	{"H1", "another version", "transport/exchange.go", "header[len(magic)] != version {", "false {", shakeTests},
	{"H2", "a message over 4 KiB, before its body is read", "transport/exchange.go", "if size > maxBody {", "if false {", shakeTests},
	{"H3", "a second KeyRequest or ResumeHello", "transport/handshakeserver.go", "due = slices.DeleteFunc(due, func(t byte) bool { return t == typ })", "_ = slices.DeleteFunc[[]byte]", "PreludeOnce"},
	{"H4", "a key on offer that the client does not trust", "transport/handshakeclient.go", "	name, err := trust.admits(ctx, key)\n	if err != nil {", "	name, err := trust.admits(ctx, key)\n	if false {", shakeTests + "|WrongPin"},
	{"H4", "more than 16 ids in a KeyRequest", "transport/messages.go", "b[0] > maxKeyIDs || ", "", "Messages|ParametersRefused"},
	{"H5", "another application protocol", "transport/handshakeserver.go", "if string(hello.protocol) != h.cfg.Protocol {", "if false {", shakeTests},
	{"H5", "a secret wrapped for a key of another size", "transport/handshakeserver.go", " || h.ticket == nil && len(hello.secret) != h.key.rsa.Size()", "", "HelloRefused"},
	{"H5", "implicit rejection: bad padding must look good", "transport/handshake.go", "	if good {\n		choice = 1\n	}", "	if good || true {\n		choice = 1\n	}", "WrappedSecretFaults|Handshake"},
	{"H5", "bytes behind a ClientHello", "transport/messages.go", "if !ok || len(r) != 0 || len(m.secret) == 0 {", "if !ok || len(m.secret) == 0 {", "Messages"},
	{"H6", "a server that could not read the secret", "transport/handshakeclient.go", "	plain, err := aead.Open(nil, iv, reply.sealed[:], shares)\n	if err != nil {", "	plain, err := aead.Open(nil, iv, reply.sealed[:], shares)\n	if plain = []byte{0, 0, 0, 1, 0}; false {", shakeTests},
	{"H6", "bytes behind a ServerHello", "transport/messages.go", "r.fill(m.sealed[:])) || len(r) != 0 {", "r.fill(m.sealed[:])) {", "Messages"},
	{"H6", "flags that mean nothing, from a server", "transport/messages.go", "if len(b) != serverSize || b[0] > 1 {", "if len(b) != serverSize {", "ParametersRefused"},
	{"H7", "a client that does not know the secret", "transport/handshakeserver.go", "	plain, err := aead.Open(nil, iv, body, h.log.sum())\n	if err != nil {", "	plain, err := aead.Open(nil, iv, body, h.log.sum())\n	if plain == nil {\n		plain = (&clientParams{maxStreams: 1}).append(nil)\n	}\n	if false {", shakeTests + "|Replay"},
	{"H7", "a signature that is not the client's", "transport/handshake.go", "	return key, rsa.VerifyPSS(key.rsa, crypto.SHA256, digest[:], p.signature,\n		&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})", "	_ = digest\n	return key, nil", "Forged"},
	{"H7", "a key without a signature, and the reverse", "transport/messages.go", " || (len(p.spki) == 0) != (len(p.signature) == 0) {", " {", "ParametersRefused"},
	{"H7", "a number of streams that is none", "transport/messages.go", "if n < 1 || n > MaxMaxStreams {", "if false {", "ParametersRefused"},
	{"H8", "one answer for every failure", "transport/handshakeserver.go", "	client, err := h.client(finished)\n	if err != nil {\n		return nil, reject(h.raw, ErrHandshake)", "	client, err := h.client(finished)\n	if err != nil {\n		return nil, rejectWith(h.raw, alertMessage{code: AlertInternal}, ErrHandshake)", "Forged"},
	{"H9", "a client that is not admitted", "transport/handshakeserver.go", "out.peer.Name, err = h.cfg.Peers.admits(h.ctx, client); err != nil {", "out.peer.Name, err = h.cfg.Peers.admits(h.ctx, client); false {", shakeTests},
	{"H9", "a client without a key, where one is wanted", "transport/trust.go", "case key == nil || t.admit == nil:", "case t.admit == nil || key == nil && func() bool { t = AnyClient(); return false }():", shakeTests},
	{"H10", "X25519 shares of low order", "transport/handshake.go", "	return key.ECDH(peer)\n", "	if dh, err := key.ECDH(peer); err == nil {\n		return dh, nil\n	}\n	return make([]byte, 32), nil\n", "HelloRefused"},
	{"H11", "a handshake that takes too long", "transport/handshake.go", "		raw.SetDeadline(time.Unix(1, 0)) // unblocks what is blocked\n", "", "Context|Foreign|DialFaults"},
	{"H13", "a refusal that carries something", "transport/handshakeclient.go", "case len(body) != 0:", "case false:", "RefusalOfTicket"},
	{"H14", "a client that says who it is beside its ticket", "transport/handshakeserver.go", "	if len(finished.spki) > 0 {\n		return nil, errMalformed // H14: a ticket says who it is\n	}\n", "", "Resume|Ticket"},
	{"H15", "a ticket after its time", "transport/tickets.go", "!now.Before(t.end) || ", "", "Ticket|Resume"},
	{"H15", "a ticket for another key of the server", "transport/tickets.go", "t.server != hello.keyID || ", "", "Ticket|Resume"},
	{"H15", "a ticket for another protocol", "transport/tickets.go", " || t.protocol != sha256.Sum256(hello.protocol) {", " {", "Ticket|Resume"},
	{"H15", "a chain of tickets without end", "transport/tickets.go", "		end = resumed.end\n", "", "Ticket|Resume"},
	{"H15", "a ticket key used for too long", "transport/tickets.go", "now.Sub(k.now.made) >= ticketLifetime || ", "", "Ticket"},
	{"H15", "a ticket key used for too many tickets", "transport/tickets.go", " || k.now.sealed >= ticketsPerKey {", " {", "Ticket"},
	{"H15", "a ticket key that is gone", "transport/tickets.go", " && now.Sub(key.made) < 2*ticketLifetime {", " {", "Ticket"},
	{"H15", "tickets that are too short or long", "transport/tickets.go", " || len(hello.secret) < minOwnTicket || len(hello.secret) > maxTicket {", " {", "Ticket|Resume|Fuzz"},

	{"G", "more handshakes than MaxHandshakes", "transport/gate.go", "room := g.places < g.limit || g.largestLocked() != nil", "room := true", gateTests},
	{"G", "places that stalled connections hold", "transport/gate.go", "			largest.giveWayLocked()\n", "", gateTests},
	{"G", "more handshakes of a source than its share", "transport/gate.go", "if from.limited && len(from.passes) >= g.perSource && !from.giveWayLocked() {", "if false {", gateTests},
	{"G", "sources whose handshakes fail", "transport/gate.go", "s.barred = s.until.Sub(now) >= penaltyLimit", "s.barred = false", gateTests},
	{"G", "penalties that end", "transport/gate.go", "		s.barred = false\n", "", gateTests},
	{"G", "work that was spent on a failure", "transport/gate.go", "		by = penaltyOperation\n", "", gateTests},
	{"G", "stalls that are counted", "transport/gate.go", "		by = penaltyStall\n", "", gateTests},
	{"G", "garbage that is counted", "transport/gate.go", "		by = penaltyGarbage\n", "", gateTests},
	{"G", "private-key operations at once", "transport/gate.go", "for g.lane > 0 && len(g.ring) > 0 {", "for len(g.ring) > 0 {", gateTests},
	{"G", "sources that take turns", "transport/gate.go", "			g.ring = append(g.ring, from)\n		}\n		if !t.gone", "			g.ring = append([]*source{from}, g.ring...)\n		}\n		if !t.gone", gateTests},
	{"G", "a connection that waits for us keeps its place", "transport/gate.go", "		if !p.busy {", "		if !p.busy || true {", gateTests},
	{"G", "how many sources are remembered", "transport/gate.go", "if len(g.sources) < maxSources && !sweep {", "if !sweep {", gateTests},
	{"G", "a HandshakeFailed that blocks", "transport/listen.go", "	case l.failures <- failure{from, err}:\n	default:\n", "	case l.failures <- failure{from, err}:\n", "Busy"},
	{"G", "an accept that keeps failing", "transport/listen.go", "pause = min(max(2*pause, 5*time.Millisecond), time.Second)", "pause = 0", "AcceptBacksOff"},

	{"T", "sessions of a key that was removed", "transport/revoke.go", "		if _, ok := names[s.peer.Fingerprint()]; !ok {", "		if _, ok := names[s.peer.Fingerprint()]; !ok && false {", trustTests},
	{"T", "sessions of a key that is trusted no more", "transport/revoke.go", "		case err != nil:\n			s.wind(ErrRevoked)", "		case err != nil && false:\n			s.wind(ErrRevoked)", trustTests},
	{"T", "a list of keys that cannot be read any more", "transport/revoke.go", "return time.Since(r.failing) < recheckPatience", "return true", trustTests},
	{"T", "a list of keys that cannot be read for a moment", "transport/revoke.go", "	if err != nil && t.live.vouches() {", "	if false {", trustTests},
	{"T", "a folder with one bad key in it", "transport/trust.go", "		if err != nil {\n			return nil, err\n		}\n		names[key.id] = name", "		if err != nil {\n			continue\n		}\n		names[key.id] = name", "AuthorizedKeys|Revoked"},
	{"T", "a key file that others may read", "transport/keys.go", "info.Mode().Perm()&0o077 != 0 {", "false {", "KeyFile"},
}

const (
	shakeTests = "Handshake|Foreign|Refus"
	gateTests  = "Gate|Busy|Stalls"
	trustTests = "Revoked|Recheck"
)
