"""The key schedule (section 4 of transport/SPEC.md): bytes in, bytes out."""

import hashlib
import hmac


def extract(salt, secret):
    """HKDF-SHA256's extract (K2)."""
    return hmac.digest(salt, secret, "sha256")


def expand(secret, info, n):
    """HKDF-SHA256's expand (K2)."""
    if n > 255 * 32:
        raise ValueError("K5: at most 8160 bytes")
    out, block = b"", b""
    for i in range(1, (n + 31) // 32 + 1):
        block = hmac.digest(secret, block + info + bytes([i]), "sha256")
        out += block
    return out[:n]


def early(secret, resumed):
    """K2: of S, or of a ticket's resumption secret."""
    return extract(b"sealmux/1 resumed" if resumed else b"sealmux/1", secret)


def handshake(early_secret, kem_secret, x25519_secret):
    """K2."""
    return extract(early_secret, kem_secret + x25519_secret)


def block_key(handshake_secret, role, t1):
    """K3: (key, nonce) of the one block in ServerHello or ClientFinished; role is b"server" or b"client"."""
    out = expand(handshake_secret, b"sealmux/1 " + role + b" handshake" + t1, 44)
    return out[:32], out[32:]


def traffic_secret(handshake_secret, role, t3):
    """K4."""
    return expand(handshake_secret, b"sealmux/1 " + role + b" traffic" + t3, 32)


def record_keys(secret):
    """K4: (key, iv) of a traffic secret."""
    return expand(secret, b"sealmux/1 key", 32), expand(secret, b"sealmux/1 iv", 12)


def next_secret(secret):
    """K4: the traffic secret after a key update."""
    return expand(secret, b"sealmux/1 update", 32)


def exporter(handshake_secret, t3):
    """K5: the secret that export takes."""
    return expand(handshake_secret, b"sealmux/1 exporter" + t3, 32)


def export(exporter_secret, label, context, n):
    """K5: n bytes of keying material for an application."""
    if len(label) > 255:
        raise ValueError("K5: a label has at most 255 bytes")
    return expand(exporter_secret, b"sealmux/1 export" + bytes([len(label)]) + label + hashlib.sha256(context).digest(), n)


def resumption(handshake_secret, t3):
    """K6: the secret that belongs to the ticket of this session."""
    return expand(handshake_secret, b"sealmux/1 resumption" + t3, 32)
