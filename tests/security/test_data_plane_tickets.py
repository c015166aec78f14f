"""Session tickets: whose keys open them, and under which trust."""

from __future__ import annotations

import json
import secrets
import ssl

import pytest
from data_plane import BareNode, Caller

from sealmq._engine import EngineError
from sealmq.testing import ThrowawayCA

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def key():
    return {"name": secrets.token_hex(16), "key": secrets.token_hex(32)}


@pytest.mark.parametrize("version", VERSIONS)
def test_resumption_survives_a_restart_with_the_same_keys(tmp_path, version):
    ca, keys = ThrowawayCA(), [key()]
    with BareNode(tmp_path, ca=ca, tls={"ticket_keys": keys}) as first:
        caller = Caller(first, first.device("a"), version)
        caller.call("a")
    with BareNode(tmp_path, ca=ca, tls={"ticket_keys": keys}) as second:
        assert caller.call("a", port=second.port)[1]
        assert second.event("connected")["device"] == "a"


@pytest.mark.parametrize("version", VERSIONS)
def test_older_keys_open_and_the_newest_seals(tmp_path, version):
    older, newer = key(), key()
    with BareNode(tmp_path, tls={"ticket_keys": [older]}) as node:
        caller = Caller(node, node.device("a"), version)
        caller.call("a")
        node.reload(tls={"ticket_keys": [newer, older]})
        assert caller.call("a")[1]
        node.reload(tls={"ticket_keys": [newer]})  # the ticket of the last call was sealed with it
        assert caller.call("a")[1]
        node.reload(tls={"ticket_keys": [key()]})
        assert not caller.call("a")[1]


def test_a_restart_without_keys_begins_anew(tmp_path):
    ca = ThrowawayCA()
    with BareNode(tmp_path, ca=ca) as first:
        caller = Caller(first, first.device("a"))
        caller.call("a")
        assert caller.call("a")[1]
    with BareNode(tmp_path, ca=ca) as second:
        assert not caller.call("a", port=second.port)[1]


@pytest.mark.parametrize("keys", [[], [key()]], ids=["own", "given"])
def test_another_set_of_client_cas_ends_resumption(tmp_path, keys):
    """With a CA more the certificate would still verify; the ticket does not say so."""
    with BareNode(tmp_path, tls={"ticket_keys": keys}) as node:
        caller = Caller(node, node.device("a"))
        caller.call("a")
        both = (node.ca.client_ca_pem + ThrowawayCA().client_ca_pem).decode()
        node.reload(tls={"ticket_keys": keys, "client_ca_pem": both})
        assert not caller.call("a")[1]
        assert caller.call("a")[1]
        node.reload(tls={"ticket_keys": keys})
        assert not caller.call("a")[1]


def test_a_ticket_without_certificate_is_worth_nothing_once_one_is_demanded(tmp_path):
    with BareNode(tmp_path, dangerous={"anonymous": True}, tls={"ticket_keys": (keys := [key()])}) as node:
        caller = Caller(node, None)
        caller.call("anonymous")
        assert caller.call("anonymous")[1]
        node.reload(dangerous={}, tls={"ticket_keys": keys})
        with pytest.raises((ssl.SSLError, ConnectionError)):
            caller.call("anonymous")
        node.event("refused", cause="no-client-certificate")
        assert json.loads(node.node.stats())["handshakes_resumed"] == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"name": "00" * 16, "key": "00" * 31},
        {"name": "00" * 15, "key": "00" * 32},
        {"name": "zz" * 16, "key": "00" * 32},
        {"name": "00" * 16, "key": "z" * 64},
    ],
)
def test_a_key_of_the_wrong_form_is_an_error_that_does_not_show_it(tmp_path, bad):
    with pytest.raises(EngineError) as caught:
        BareNode(tmp_path, tls={"ticket_keys": [key(), bad]}).__enter__()
    code, message, mend = caught.value.args
    assert code == "ticket-key-invalid"
    assert "ticket key 2" in message
    assert bad["key"] not in message + mend
