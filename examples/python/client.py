"""A Sealmux client for the command line; see --help. It needs python3-cryptography and python3-msgpack."""

import argparse
import json
import sys
import threading

import identity
import rpc
import session
from errors import SealmuxError


def trust(text):
    """--server-key: a PEM file of the server's public key, or its fingerprint."""
    if text.startswith("SHA256:"):
        return identity.Trust(identity.parse_fingerprint(text))
    return identity.Trust(identity.read_public_key(text))


def host_port(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def shown(value):
    return json.dumps(value, ensure_ascii=False, default=lambda v: v.hex() if isinstance(v, bytes) else str(v))


def echo(client, args):
    for text in args:
        print(client.call("echo", text).value)


def call(client, args):
    method, *requests = args
    for request in requests or ["null"]:
        print(shown(client.call(method, json.loads(request)).value))


def stream(client, args):
    method, *items = args
    values = [json.loads(item) for item in items]
    messages = client.stream(method)

    def send():
        try:
            for value in values:
                messages.send(value)
            messages.end()
        except SealmuxError:
            pass  # the loop below says why

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for value in messages:
            print(shown(value))
    finally:
        sender.join()


def selftest(client, args):
    """What any server with the built-in methods answers, and an echo if it is one."""
    health = client.call("sealmux.Health", "").value
    methods = client.call("sealmux.Methods", "").value["methods"]
    print(f"health: {health}; methods: {len(methods)}")
    own = client.session.established
    print(f"server: {own.server_key.fingerprint}; streams: {own.max_streams}; client key required: {own.key_required}")


COMMANDS = {"echo": echo, "call": call, "stream": stream, "selftest": selftest}


def main():
    parser = argparse.ArgumentParser(description="Talks to a Sealmux server.", epilog="""commands: echo TEXT...;
        call METHOD [JSON...]; stream METHOD [JSON...], which sends the items and prints what comes; selftest""")
    parser.add_argument("--server-key", required=True, metavar="FILE|SHA256:...",
                        help="the server's public key, or its fingerprint")
    parser.add_argument("--key", metavar="FILE", help="your private key, for a server that admits only clients it knows")
    parser.add_argument("address", metavar="HOST:PORT", type=host_port)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("args", nargs="*")
    args = parser.parse_args()
    if args.command in ("call", "stream") and not args.args:
        parser.error("name a METHOD")
    try:
        key = identity.read_private_key(args.key) if args.key else None
        client = rpc.Client(session.dial(args.address, trust(args.server_key), rpc.PROTOCOL, key=key))
        try:
            COMMANDS[args.command](client, args.args)
        finally:
            client.close()
    except (SealmuxError, OSError, ValueError) as err:
        sys.exit(f"client.py: {err}")


if __name__ == "__main__":
    main()
