"""ML-KEM-768 as FIPS 203 writes it, on whole bytes: keygen, encaps, decaps.

Python's integers take a time that depends on their values, so this is for talking to a server from a desk and
for checking the protocol, not for keys that somebody measures. Names and algorithm numbers are FIPS 203's.
"""

import hashlib
import hmac

Q, K, DU, DV = 3329, 3, 10, 4  # section 8: ML-KEM-768; eta1 and eta2 are 2
EK_BYTES, DK_BYTES, CIPHERTEXT_BYTES = 384 * K + 32, 768 * K + 96, 32 * (DU * K + DV)


class KeyRefused(ValueError):
    """The encapsulation key or ciphertext is not of the form that FIPS 203, section 7, demands."""


def _bit_reverse(i):
    return int(f"{i:07b}"[::-1], 2)


ZETAS = [pow(17, _bit_reverse(i), Q) for i in range(128)]
GAMMAS = [pow(17, 2 * _bit_reverse(i) + 1, Q) for i in range(128)]


def _g(data):
    digest = hashlib.sha3_512(data).digest()
    return digest[:32], digest[32:]


def _h(data):
    return hashlib.sha3_256(data).digest()


def _j(data):
    return hashlib.shake_256(data).digest(32)


# Bytes and coefficients (algorithms 5 and 6, and compression, section 4.2.1)

def _encode(bits, f):
    return sum(c << (bits * i) for i, c in enumerate(f)).to_bytes(32 * bits, "little")


def _decode(bits, data):
    number, mask = int.from_bytes(data, "little"), (1 << bits) - 1
    return [number >> (bits * i) & mask for i in range(256)]


def _compress(bits, f):
    return [((2 * c << bits) + Q) // (2 * Q) & ((1 << bits) - 1) for c in f]


def _decompress(bits, f):
    return [(2 * Q * c + (1 << bits)) >> (bits + 1) for c in f]


# Sampling (algorithms 7 and 8)

def _sample_ntt(seed):
    """Coefficients below Q from a stream of 12-bit numbers; it is lengthened in the rare case that it is too short."""
    length = 840
    while True:
        stream = hashlib.shake_128(seed).digest(length)
        f = []
        for a, b, c in zip(stream[0::3], stream[1::3], stream[2::3]):
            f += [d for d in (a | (b & 15) << 8, b >> 4 | c << 4) if d < Q]
        if len(f) >= 256:
            return f[:256]
        length *= 2


def _sample_cbd(seed, n):
    bits = int.from_bytes(hashlib.shake_256(seed + bytes([n])).digest(128), "little")
    return [((bits >> 4 * i & 1) + (bits >> 4 * i + 1 & 1) - (bits >> 4 * i + 2 & 1) - (bits >> 4 * i + 3 & 1)) % Q
            for i in range(256)]


# The number-theoretic transform (algorithms 9 to 12)

def _ntt(f):
    f, i, length = list(f), 1, 128
    while length >= 2:
        for start in range(0, 256, 2 * length):
            zeta = ZETAS[i]
            i += 1
            for j in range(start, start + length):
                t = zeta * f[j + length] % Q
                f[j + length] = (f[j] - t) % Q
                f[j] = (f[j] + t) % Q
        length //= 2
    return f


def _ntt_inverse(f):
    f, i, length = list(f), 127, 2
    while length <= 128:
        for start in range(0, 256, 2 * length):
            zeta = ZETAS[i]
            i -= 1
            for j in range(start, start + length):
                t = f[j]
                f[j] = (t + f[j + length]) % Q
                f[j + length] = zeta * (f[j + length] - t) % Q
        length *= 2
    return [c * 3303 % Q for c in f]  # 3303 is 1/128 modulo Q


def _add(f, g):
    return [(a + b) % Q for a, b in zip(f, g)]


def _dot(fs, gs):
    """The sum of the products of transformed polynomials."""
    sum_ = [0] * 256
    for f, g in zip(fs, gs):
        for i, gamma in enumerate(GAMMAS):
            a0, a1, b0, b1 = f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]
            sum_[2 * i] += a0 * b0 + a1 * b1 * gamma
            sum_[2 * i + 1] += a0 * b1 + a1 * b0
    return [c % Q for c in sum_]


def _matrix(rho):
    return [[_sample_ntt(rho + bytes([j, i])) for j in range(K)] for i in range(K)]


# K-PKE (algorithms 13 to 15)

def _pke_keygen(d):
    rho, sigma = _g(d + bytes([K]))
    s = [_ntt(_sample_cbd(sigma, n)) for n in range(K)]
    e = [_ntt(_sample_cbd(sigma, K + n)) for n in range(K)]
    t = [_add(_dot(row, s), e[i]) for i, row in enumerate(_matrix(rho))]
    return b"".join(_encode(12, f) for f in t) + rho, b"".join(_encode(12, f) for f in s)


def _pke_encrypt(ek, m, r):
    t = [_decode(12, ek[384 * i:384 * (i + 1)]) for i in range(K)]
    columns = zip(*_matrix(ek[384 * K:]))
    y = [_ntt(_sample_cbd(r, n)) for n in range(K)]
    u = [_add(_ntt_inverse(_dot(column, y)), _sample_cbd(r, K + i)) for i, column in enumerate(columns)]
    v = _add(_add(_ntt_inverse(_dot(t, y)), _sample_cbd(r, 2 * K)), _decompress(1, _decode(1, m)))
    return b"".join(_encode(DU, _compress(DU, f)) for f in u) + _encode(DV, _compress(DV, v))


def _pke_decrypt(dk, c):
    u = [_ntt(_decompress(DU, _decode(DU, c[32 * DU * i:32 * DU * (i + 1)]))) for i in range(K)]
    v = _decompress(DV, _decode(DV, c[32 * DU * K:]))
    s = [_decode(12, dk[384 * i:384 * (i + 1)]) for i in range(K)]
    w = [(a - b) % Q for a, b in zip(v, _ntt_inverse(_dot(s, u)))]
    return _encode(1, _compress(1, w))


# ML-KEM (algorithms 16 to 21)

def keygen(d, z):
    """The keys (ek, dk) of two seeds of 32 random bytes."""
    ek, dk = _pke_keygen(d)
    return ek, dk + ek + _h(ek) + z


def check_encapsulation_key(ek):
    """Section 7.2: raises KeyRefused unless ek has the right length and all its coefficients are below Q."""
    if len(ek) != EK_BYTES or any(c >= Q for i in range(K) for c in _decode(12, ek[384 * i:384 * (i + 1)])):
        raise KeyRefused("the ML-KEM encapsulation key is not canonical")


def encaps(ek, m):
    """(shared secret, ciphertext) for a checked key, of 32 random bytes m."""
    check_encapsulation_key(ek)
    key, r = _g(m + _h(ek))
    return key, _pke_encrypt(ek, m, r)


def decaps(dk, c):
    """The shared secret. A ciphertext that was not made by encaps gives a secret that nobody else knows."""
    if len(c) != CIPHERTEXT_BYTES or len(dk) != DK_BYTES:
        raise KeyRefused("the ML-KEM ciphertext or key has another length")
    dk_pke, ek, h, z = dk[:384 * K], dk[384 * K:768 * K + 32], dk[768 * K + 32:768 * K + 64], dk[768 * K + 64:]
    m = _pke_decrypt(dk_pke, c)
    key, r = _g(m + h)
    return key if hmac.compare_digest(c, _pke_encrypt(ek, m, r)) else _j(z + c)
