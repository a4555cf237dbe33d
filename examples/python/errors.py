"""What can go wrong with a channel or session. rpc.CallError is what can go wrong with one call."""

ALERTS = {1: "unknown key", 2: "other application protocol", 3: "other version", 4: "handshake failed",
          5: "not authorized", 6: "broke the protocol", 7: "internal error", 8: "busy"}  # section 7


class SealmuxError(Exception):
    """Anything that a peer, or the way to it, can do to us."""


class Refused(SealmuxError):
    """The peer broke a rule. alert is the code that it is told, None if it is told nothing."""

    def __init__(self, why, alert=6):
        super().__init__(why)
        self.alert = alert


class Untrusted(Refused):
    """The server has no key that the client trusts."""


class KeyRequired(SealmuxError):
    """The server demands a client key, and there is none."""


class PeerAlert(SealmuxError):
    """The peer ended the handshake or session with an alert; server_id comes with code 1 alone, and is only advice."""

    def __init__(self, code, server_id=None, plain=False):
        where = "in the handshake" if plain else "in the session"
        super().__init__(f"the peer says {where}: {ALERTS.get(code, 'alert')} ({code})")
        self.code, self.server_id, self.plain = code, server_id, plain


class Truncated(SealmuxError):
    """The connection ended without the authenticated end of the session (R5)."""


class Stalled(SealmuxError):
    """The peer is silent, or takes nothing (H11, R8)."""


class SessionEnded(SealmuxError):
    """The session is over, by a close of either side."""


class StreamReset(SealmuxError):
    """The peer has ended this stream with RST."""
