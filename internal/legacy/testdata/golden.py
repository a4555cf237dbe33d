"""Makes exchanges.json, long.json, rejections.json and literals.json: golden.py DIRECTORY. It makes the same bytes each time."""
import ast
import base64
import hashlib
import hmac
import json
import os
import random
import sys

from Cryptodome.Cipher import PKCS1_v1_5
from Cryptodome.PublicKey import RSA

from client import LETTERS, decrypt, encrypt
from server import PREFIX

HERE = os.path.dirname(os.path.abspath(__file__))
choose = random.Random(20261125)


def key_of(name):
    with open(os.path.join(HERE, name)) as file:
        return RSA.import_key(file.read())


def letters(count):
    return "".join(choose.choices(LETTERS, k=count))


# How a program may write {"key": ..., "data": ...}: the form in the wire's description, str() and repr() of a dict, json.dumps, and more.
FORMS = {
    "described": lambda a, x, b, y: '{"%s":"%s", "%s":"%s"}' % (a, x, b, y),
    "repr": lambda a, x, b, y: repr({a: x, b: y}),
    "json": lambda a, x, b, y: json.dumps({a: x, b: y}),
    "compact": lambda a, x, b, y: json.dumps({a: x, b: y}, separators=(",", ":")),
    "reversed": lambda a, x, b, y: repr({b: y, a: x}),
    "mixed": lambda a, x, b, y: "{ '%s' : \"%s\" ,\"%s\":'%s' }" % (a, x, b, y),
}


def request(rsa, key, iv, text, outer, inner, encode, padding):
    wrapped = rsa.encrypt(inner("aes_key", key, "aes_iv", iv).encode())
    data = encrypt(key, iv, text + "\0" * padding)
    return encode(outer("key", encode(wrapped).decode(), "data", data).encode())


def exchange(name, text, size=32, outer="described", inner="described", encode=base64.b64encode, padding=0, server="server.pem"):
    rsa = PKCS1_v1_5.new(key_of(server), randfunc=choose.randbytes)
    key, iv = letters(size), letters(16)
    sent = request(rsa, key, iv, text, FORMS[outer], FORMS[inner], encode, padding)
    reply = base64.b64encode(encrypt(key, iv, PREFIX + text).encode())
    assert decrypt(key, iv, base64.b64decode(reply).decode()) == PREFIX + text
    return {"name": name, "server": server, "text": text, "aes_key": key, "aes_iv": iv,
            "request": sent.decode() + "#", "reply": reply.decode() + "#"}


def exchanges():
    yield exchange("hello", "hello")
    yield exchange("Chinese", "你好，世界")
    yield exchange("empty", "")
    yield exchange("empty as a block of NULs", "", padding=16)
    yield exchange("a block, padded by one more", "0123456789abcdef", padding=16)
    yield exchange("a block", "0123456789abcdef")
    yield exchange("# in the text", "a#b##")
    yield exchange("lines", "one\ntwo\r\n\tthree\\'\"")
    yield exchange("NUL inside", "a\0b")
    yield exchange("beyond the BMP", "🙂" * 9)
    yield exchange("a page", "".join(choose.choices(LETTERS + " 你好", k=3000)))
    yield exchange("16 byte key", "AES-128", size=16)
    yield exchange("24 byte key", "AES-192", size=24)
    yield exchange("1024 bit server", "small", server="small.pem")
    yield exchange("1024 bit server, repr", "small", server="small.pem", outer="repr", inner="repr")
    for form in FORMS:
        yield exchange("outer " + form, form, outer=form)
        yield exchange("inner " + form, form, inner=form)
    yield exchange("encodebytes", "lines of 76", encode=base64.encodebytes, outer="repr", inner="repr")


def long_exchange():
    """1 MiB: its hashes, and what the rest is computed from."""
    text = "0123456789abcde\n" * 65536
    got = exchange("1 MiB", text)
    digest = lambda field: hashlib.sha256(got[field].encode()).hexdigest()
    wrapped = ast.literal_eval(base64.b64decode(got["request"][:-1]).decode())["key"]
    return {"wrapped": wrapped, "aes_key": got["aes_key"], "aes_iv": got["aes_iv"], "repeat": text[:16], "times": 65536,
            "request_sha256": digest("request"), "reply_sha256": digest("reply")}


def expand(secret, purpose, count):
    out, i = b"", 0
    while len(out) < count:
        out += hmac.digest(secret, i.to_bytes(2, "big") + purpose + (8 * count).to_bytes(2, "big"), "sha256")
        i += 1
    return out[:count]


def unwrap(key, ciphertext):
    """PKCS#1 v1.5 with implicit rejection, as draft-irtf-cfrg-rsa-guidance has it."""
    size = key.size_in_bytes()
    message = pow(int.from_bytes(ciphertext, "big"), key.d, key.n).to_bytes(size, "big")
    end = message.find(0, 2)
    if message[:2] == b"\0\2" and end >= 10:
        return message[end + 1:]
    secret = hmac.digest(hashlib.sha256(key.d.to_bytes(size, "big")).digest(), ciphertext, "sha256")
    mask = (1 << (size - 10).bit_length()) - 1
    candidates = expand(secret, b"length", 256)
    length = [n for n in (int.from_bytes(candidates[i:i + 2], "big") & mask for i in range(0, 256, 2)) if n < size - 10][-1]
    made_up = expand(secret, b"message", size)
    return made_up[size - length:]


def rejections():
    for server in ("server.pem", "small.pem"):
        key = key_of(server)
        size = key.size_in_bytes()
        # Random padding of size bytes without the first two, with zeros at the given places.
        def padded(start, *zeros):
            block = bytearray(start + bytes(choose.randrange(1, 256) for _ in range(size - len(start))))
            for place in zeros:
                block[place] = 0
            return bytes(block)
        blocks = {
            "good": padded(b"\0\2", size - 60),
            "no text": padded(b"\0\2", size - 1),
            "the longest text": padded(b"\0\2", 10),
            "zeros in the text": padded(b"\0\2", size - 60, size - 30, size - 1),
            "padding of 7": padded(b"\0\2", 9),
            "padding of 7, and a zero later": padded(b"\0\2", 9, size - 60),
            "no padding": padded(b"\0\2", 2, size - 60),
            "no zero": padded(b"\0\2"),
            "block type 1": padded(b"\0\1", size - 60),
            "block type 0": padded(b"\0\0", size - 60),
            "first byte 1": padded(b"\1\2", size - 60),
            "zero": bytes(size),
            "one": bytes(size - 1) + b"\1",
        }
        for name, block in blocks.items():
            ciphertext = pow(int.from_bytes(block, "big"), key.e, key.n).to_bytes(size, "big")
            yield {"name": name, "server": server, "ciphertext": ciphertext.hex(), "plaintext": unwrap(key, ciphertext).hex()}
        for i in range(8):
            ciphertext = choose.randrange(key.n).to_bytes(size, "big")
            yield {"name": "random %d" % i, "server": server, "ciphertext": ciphertext.hex(), "plaintext": unwrap(key, ciphertext).hex()}


def means(source):
    """What Python makes of a literal: the two values, or None."""
    try:
        got = ast.literal_eval(source)
    except (ValueError, SyntaxError, MemoryError):
        return None
    if not isinstance(got, dict) or set(got) != {"key", "data"}:
        return None
    values = [got["key"], got["data"]]
    return values if all(isinstance(v, str) and v.isascii() for v in values) else None


def literals():
    """written is what a program writes, and must be read; the others are those, damaged."""
    ascii_text = [chr(c) for c in range(128)]
    pieces = ["\\x41", "\\u0042", "\\U00000043", "\\n", "\\101", "\\N{BULLET}", "\\q", "\\", "'", '"', "{", "}", ",", ":", " ", "\t", "\n",
              "\0", "é", "b", "r", "#", "()", "key", "data", "''", "1+1", "None", "\x7f"]
    for i in range(120):
        values = ["".join(choose.choices(choose.choice([LETTERS, ascii_text, "'\"\\ "]), k=choose.randrange(12))) for _ in range(2)]
        source = choose.choice([FORMS["repr"], FORMS["reversed"]])("key", values[0], "data", values[1])
        yield {"source": source, "means": means(source), "written": True}
        for _ in range(6):
            at = choose.randrange(len(source) + 1)
            damaged = source[:at] + choose.choice(pieces) * choose.randrange(2) + source[at + choose.randrange(3):]
            yield {"source": damaged, "means": means(damaged), "written": False}


def write(folder, name, what):
    with open(os.path.join(folder, name), "w", encoding="ascii") as file:
        json.dump(what, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    write(sys.argv[1], "exchanges.json", list(exchanges()))
    write(sys.argv[1], "long.json", long_exchange())
    write(sys.argv[1], "rejections.json", list(rejections()))
    write(sys.argv[1], "literals.json", list(literals()))
