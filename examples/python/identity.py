"""RSA identities (section 2 of transport/SPEC.md), and what is done with them: OAEP and PSS."""

import base64
import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from errors import Refused

WRAP_LABEL = b"sealmux/1 wrapped secret"
PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=WRAP_LABEL)


class PublicKey:
    """An RSA key in the only form that has an id: what fails I1 or I2 raises Refused."""

    def __init__(self, spki):
        try:
            key = serialization.load_der_public_key(spki)
        except (ValueError, UnsupportedAlgorithm, TypeError) as err:
            raise Refused("not a SubjectPublicKeyInfo", alert=4) from err
        if not isinstance(key, rsa.RSAPublicKey):
            raise Refused("I1: not an RSA key", alert=4)
        numbers, bits = key.public_numbers(), key.key_size
        if not 2048 <= bits <= 8192 or bits % 8 or numbers.n % 2 == 0:
            raise Refused("I1: the modulus is odd and has 2048 to 8192 bits, a multiple of 8", alert=4)
        if not 65537 <= numbers.e <= 2**31 - 1 or numbers.e % 2 == 0:
            raise Refused("I1: the exponent is odd, from 65537 to 2^31-1", alert=4)
        if _spki(key) != spki:
            raise Refused("I2: the SubjectPublicKeyInfo does not re-encode to the same bytes", alert=4)
        self.key, self.spki, self.size = key, spki, bits // 8
        self.id = hashlib.sha256(spki).digest()
        self.fingerprint = fingerprint(self.id)

    def wrap(self, secret):
        """RSA-OAEP of S (H5)."""
        return self.key.encrypt(secret, OAEP)

    def check_signature(self, signature, message):
        """Raises Refused unless it is a PSS signature by this key (H7)."""
        try:
            self.key.verify(signature, message, PSS, hashes.SHA256())
        except InvalidSignature as err:
            raise Refused("H7: the client's signature is wrong", alert=4) from err


class PrivateKey:
    """The private half, which signs as a client (and, in tests, unwraps as a server)."""

    def __init__(self, key):
        self.key, self.public = key, PublicKey(_spki(key.public_key()))

    def sign(self, message):
        return self.key.sign(message, PSS, hashes.SHA256())

    def unwrap(self, ciphertext):
        return self.key.decrypt(ciphertext, OAEP)


def read_private_key(path):
    """From a PEM file of PKCS#8, as sealmux keygen writes it."""
    with open(path, "rb") as file:
        return PrivateKey(serialization.load_pem_private_key(file.read(), password=None))


def read_public_key(path):
    """From a PEM file of a SubjectPublicKeyInfo."""
    with open(path, "rb") as file:
        return PublicKey(_spki(serialization.load_pem_public_key(file.read())))


def fingerprint(id_):
    """I1."""
    return "SHA256:" + base64.b64encode(id_).decode().rstrip("=")


def parse_fingerprint(text):
    """The id of a fingerprint; ValueError if it is none."""
    id_ = base64.b64decode(text.removeprefix("SHA256:") + "=", validate=True)
    if len(id_) != 32 or fingerprint(id_) != text:
        raise ValueError(f"not a fingerprint: {text}")
    return id_


def _spki(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


class Trust:
    """Which servers a client believes (I3): pins, each a PublicKey or an id of 32 bytes, or a function of a PublicKey.

    There is no default: a Trust of nothing is a programmer's mistake."""

    def __init__(self, *pins, judge=None):
        if bool(pins) == bool(judge) or len(pins) > 16:
            raise ValueError("name 1 to 16 pins, or a function that judges a key")
        self.ids = [pin.id if isinstance(pin, PublicKey) else bytes(pin) for pin in pins]
        self.only_key = pins[0] if len(pins) == 1 and isinstance(pins[0], PublicKey) else None  # H3
        self.judge = judge or (lambda key: key.id in self.ids)
