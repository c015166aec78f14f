"""An ACME server that misbehaves, by script: every answer it may not give ends the order with a reason."""

import json
import socket

import pytest

from sealmq.config.address import Address
from sealmq.errors import Environment, PeerFault
from sealmq.pki import signing
from sealmq.pki.acme import HttpListener, obtain
from sealmq.pki.acme.server import AcmeServer, Answer, Refused
from sealmq.testing import ThrowawayCA
from sealmq.tls import client_context

BASE = "https://acme.invalid"
PROBLEM = "urn:ietf:params:acme:error:"


class Scripted(AcmeServer):
    """A server whose answers stand in `script`, by path: a list is used up, its last entry stays."""

    def __init__(self, **script):
        super().__init__(f"{BASE}/dir", signing.new_key(), "", client_context(ca=None))
        resources = {"newNonce": "nonce", "newAccount": "account", "newOrder": "order"}
        self.asked = []
        self.script = {
            "dir": answer({name: f"{BASE}/{path}" for name, path in resources.items()}),
            "nonce": answer({}),
            "account": answer({}, location=f"{BASE}/account/1"),
            "order": answer(
                {"authorizations": [f"{BASE}/authz"], "finalize": f"{BASE}/finalize"}, location=f"{BASE}/order/1"
            ),
            "authz": [authz("pending"), authz("valid")],
            "challenge": answer({}),
            "order/1": [order("ready"), order("processing"), order("valid", certificate=f"{BASE}/cert")],
            "finalize": answer({}),
            **{name.replace("__", "/"): value for name, value in script.items()},
        }

    def _send(self, _method, url, _body=None):
        path = url.removeprefix(f"{BASE}/")
        self.asked.append(path)
        found = self.script[path]
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        self._nonces.append("n")
        return found


def answer(document, status=200, **headers):
    return Answer(status, headers, json.dumps(document).encode())


def authz(status, kind="http-01", **more):
    challenge = {"type": kind, "token": "abc", "url": f"{BASE}/challenge", **more}
    return answer({"status": status, "identifier": {"value": "a.example"}, "challenges": [challenge]})


def order(status, **more):
    return answer({"status": status, "finalize": f"{BASE}/finalize", **more})


class Shown:
    """A challenge that only remembers."""

    kind = "http-01"

    def __init__(self):
        self.tokens, self.open = [], False

    def __enter__(self):
        self.open = True
        return self

    def __exit__(self, *_):
        self.open = False

    def show(self, name, token, key_authorization):
        assert self.open
        assert key_authorization.startswith(f"{token}.")
        self.tokens.append((name, token))


def run(server, shown=None):
    pauses = []
    with pytest.raises(PeerFault) as caught:
        obtain(server, ["a.example"], shown or Shown(), sleep=pauses.append)
    return caught.value, pauses


def test_the_order_of_things_up_to_a_chain_for_another_key():
    server, shown = Scripted(cert=Answer(200, {}, ThrowawayCA().issue_server("a.example").cert_pem)), Shown()
    fault, _ = run(server, shown)
    assert fault.code == "acme-answer"
    assert "not for the key" in fault.message
    assert shown.tokens == [("a.example", "abc")]
    assert not shown.open
    steps = [path for path in server.asked if path not in ("dir", "nonce")]
    assert steps == [
        *["account", "order", "authz", "challenge", "authz"],
        *["order/1", "finalize", "order/1", "order/1", "cert"],
    ]


def test_a_server_that_never_comes_to_an_end():
    fault, pauses = run(Scripted(authz=authz("pending")))
    assert fault.code == "acme-slow"
    assert 300 <= sum(pauses) <= 360


def test_its_wish_to_wait_is_heeded_within_bounds():
    waiting = Answer(200, {"retry-after": "9999"}, authz("pending").body)
    _, pauses = run(Scripted(authz=waiting))
    assert set(pauses) == {30.0}


def test_an_invalid_authorization_says_what_its_challenge_said():
    failed = authz("invalid", error={"type": f"{PROBLEM}unauthorized", "detail": "wrong words"})
    fault, _ = run(Scripted(authz=[authz("pending"), failed]))
    assert isinstance(fault, Refused)
    assert fault.code == "acme-unauthorized"
    assert fault.message == "ACME server refused the proof of control of a.example: wrong words"


def test_a_challenge_that_is_not_offered():
    fault, _ = run(Scripted(authz=authz("pending", kind="tls-alpn-01")))
    assert fault.code == "acme-challenge"
    assert "only tls-alpn-01" in fault.message


def test_a_name_that_was_shown_before_is_not_shown_again():
    shown = Shown()
    run(Scripted(authz=authz("valid"), cert=answer({})), shown)
    assert shown.tokens == []


def test_a_nonce_is_refused_so_often_and_no_oftener():
    bad = answer({"type": f"{PROBLEM}badNonce", "detail": "used"}, status=400)
    server = Scripted(order=bad)
    fault, _ = run(server)
    assert (fault.code, server.asked.count("order")) == ("acme-badNonce", 5)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ({"dir": Answer(200, {}, b"<html>")}, "acme-answer"),
        ({"dir": answer([1])}, "acme-answer"),
        ({"dir": answer({"newOrder": 5})}, "acme-directory"),
        ({"account": answer({})}, "acme-answer"),
        ({"order": answer({"authorizations": []})}, "acme-answer"),
        ({"order__1": order("ready"), "finalize": answer({}, status=500)}, "acme-unknown"),
        ({"order__1": [order("ready"), order("valid")]}, "acme-answer"),
        ({"order__1": order("invalid", error={"type": f"{PROBLEM}caa", "detail": "no"})}, "acme-caa"),
        ({"cert": Answer(200, {}, b"no certificate")}, "acme-answer"),
        (
            {"account": answer({"type": f"{PROBLEM}externalAccountRequired"}, status=403)},
            "acme-externalAccountRequired",
        ),
    ],
)
def test_answers_that_may_not_be(script, code):
    fault, _ = run(Scripted(**script))
    assert fault.code == code


def test_the_listener_answers_what_it_is_told_and_nothing_else():
    with HttpListener(Address("127.0.0.1", 0)) as listener:
        listener.show("a.example", "abc_-9", "abc_-9.print")

        def ask(line):
            with socket.create_connection(("127.0.0.1", listener.port), 10) as wire:
                wire.sendall(f"{line}\r\nHost: a.example\r\nConnection: close\r\n\r\n".encode())
                return b"".join(iter(lambda: wire.recv(4096), b""))

        found = ask("GET /.well-known/acme-challenge/abc_-9 HTTP/1.1")
        assert found.startswith(b"HTTP/1.0 200")
        assert found.endswith(b"\r\n\r\nabc_-9.print")
        for path in ("/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/abc_-9/", "/../etc/passwd"):
            assert ask(f"GET {path} HTTP/1.1").startswith(b"HTTP/1.0 404")
        assert b" 501 " in ask("POST /.well-known/acme-challenge/abc_-9 HTTP/1.1").splitlines()[0]
        with pytest.raises(Environment):
            listener.show("a.example", "../x", "y")
        port = listener.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 10)


def test_an_address_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(Environment) as caught, HttpListener(address):
            pass
    assert caught.value.code == "acme-listen"
    assert str(address) in caught.value.message
