"""Every form of a handshake with a pre-shared key, between programs that others wrote: all is read and proven.

`openssl s_client` and `s_server` are traced through a relay, with the client's key log; so what is decoded here does
not come from what decodes it.
"""

import json
import secrets
from pathlib import Path

import pytest
import servers
from relay import Relay

from programs import Program, finished
from sealmq.trace.build import trace_of
from sealmq.trace.model import Trace, to_json
from sealmq.trace.recording import Recording
from sealmq.trace.tls import keylog

KEY = secrets.token_hex(32)
ALONE = {
    "PSK-AES128-GCM-SHA256": "TLS_PSK_WITH_AES_128_GCM_SHA256",
    "PSK-AES256-GCM-SHA384": "TLS_PSK_WITH_AES_256_GCM_SHA384",
    "PSK-CHACHA20-POLY1305": "TLS_PSK_WITH_CHACHA20_POLY1305_SHA256",
    "PSK-AES128-CCM": "TLS_PSK_WITH_AES_128_CCM",
    "PSK-AES128-CCM8": "TLS_PSK_WITH_AES_128_CCM_8",
    "PSK-AES256-CCM8": "TLS_PSK_WITH_AES_256_CCM_8",
    "PSK-AES128-CBC-SHA256": "TLS_PSK_WITH_AES_128_CBC_SHA256",
    "PSK-AES256-CBC-SHA384": "TLS_PSK_WITH_AES_256_CBC_SHA384",
}
WITH_AGREEMENT = {
    "ECDHE-PSK-CHACHA20-POLY1305": ("TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256", "X25519"),
    "ECDHE-PSK-AES128-CBC-SHA256": ("TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256", "X25519"),
    "ECDHE-PSK-AES256-CBC-SHA384": ("TLS_ECDHE_PSK_WITH_AES_256_CBC_SHA384", "X25519"),
    "DHE-PSK-AES128-GCM-SHA256": ("TLS_DHE_PSK_WITH_AES_128_GCM_SHA256", ""),
}
SUITES13 = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_SHA256",
    "TLS_AES_128_CCM_8_SHA256",
]


def recorded(directory: Path, server: list[str], client: list[str], *, known: str = KEY, key: str = KEY) -> Recording:
    """What a client with `key` and a server with `KEY` say to each other; `known` is the key that the trace is told."""
    log = directory / "keys.log"
    with servers.s_server_psk(KEY, *server) as port:
        relay = Relay(port)
        reach = ["openssl", "s_client", "-connect", f"127.0.0.1:{relay.port}", "-psk_identity", "sensor-1", "-psk", key]
        finished(*reach, "-keylogfile", log, *client, stdin="")
        return relay.recording(log, key=bytes.fromhex(known))


def step(seen: Trace, name: str, who: str = ""):
    return next(one for one in seen.steps if one.message == name and who in ("", one.who))


def proven(seen: Trace, count: int) -> None:
    """All was read, so many proofs are right, and the tracker says by what both sides are known."""
    assert (seen.outcome, seen.cause) == ("ok", None), seen.evidence
    assert (seen.proofs.right, seen.proofs.wrong, seen.proofs.unchecked) == (count, 0, 0)
    assert (seen.tls.key_exchange, seen.tls.psk_identity, seen.tls.resumed) == ("psk", "sensor-1", False)
    last = seen.steps[-1].state
    assert (last.shared_key, last.handshake) == ("proven", "CONNECTED")
    assert not last.certificate.chain_received
    assert not last.certificate.key_possession_proven  # of a certificate, which there is none of
    assert last.certificate.transcript_bound
    assert "Nobody showed a certificate" in seen.summary
    assert step(seen, "shared key check").who == "here"


@pytest.mark.parametrize(("suite", "name"), ALONE.items())
def test_tls12_with_the_key_alone(tmp_path: Path, suite: str, name: str) -> None:
    options = ["-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0"]
    seen = trace_of(recorded(tmp_path, options, options))
    proven(seen, 3)  # two Finished, and the master secret made again from the key alone (RFC 4279)
    assert (seen.tls.version, seen.tls.cipher, seen.tls.group) == ("TLS 1.2", name, "")
    exchange = step(seen, "ClientKeyExchange")
    assert "that of sensor-1" in exchange.says
    assert "recomputed here from the pre-shared key alone: equal" in exchange.result
    assert "from the key of sensor-1 alone" in step(seen, "session keys").says
    assert "can read everything recorded until then" in seen.summary
    assert [one.state.shared_key for one in seen.steps[2:5]] == ["none", "none", "shown"]


@pytest.mark.parametrize(("suite", "names"), WITH_AGREEMENT.items())
def test_tls12_with_a_fresh_agreement(tmp_path: Path, suite: str, names: tuple[str, str]) -> None:
    options = ["-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0"]
    seen = trace_of(recorded(tmp_path, options, options))
    proven(seen, 2)  # the other half of the premaster (RFC 5489) is nowhere but in the two programs
    assert (seen.tls.cipher, seen.tls.group) == names
    assert "not signed" in step(seen, "ServerKeyExchange").result
    assert "and a fresh agreement with" in step(seen, "session keys").says
    assert "cannot read with it" in seen.summary


def test_tls12_without_extended_master_secret(tmp_path: Path) -> None:
    configured = tmp_path / "openssl.cnf"
    configured.write_text(
        "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = default\n"
        "[default]\nOptions = -ExtendedMasterSecret\nCipherString = PSK:@SECLEVEL=0\n"
    )
    log = tmp_path / "keys.log"
    with servers.s_server_psk(KEY, "-tls1_2", "-cipher", "PSK-AES128-GCM-SHA256:@SECLEVEL=0") as port:
        relay = Relay(port)
        reach = ["openssl", "s_client", "-connect", f"127.0.0.1:{relay.port}", "-psk_identity", "sensor-1", "-psk", KEY]
        finished(*reach, "-keylogfile", log, stdin="", env={"OPENSSL_CONF": str(configured), "PATH": "/usr/bin"})
        seen = trace_of(relay.recording(log, key=bytes.fromhex(KEY)))
    assert "extended master secret" not in step(seen, "ServerHello").says
    proven(seen, 4)  # it offers TLS 1.3 too, with a binder


def test_a_hint_is_told(tmp_path: Path) -> None:
    options = ["-tls1_2", "-cipher", "PSK-AES128-GCM-SHA256:@SECLEVEL=0"]
    seen = trace_of(recorded(tmp_path, [*options, "-psk_hint", "ask the plant"], options))
    proven(seen, 3)
    assert "hints at the key it wants: ask the plant" in step(seen, "ServerKeyExchange").says


@pytest.mark.parametrize("suite", SUITES13)
def test_tls13(tmp_path: Path, suite: str) -> None:
    options = ["-tls1_3", "-ciphersuites", suite]
    seen = trace_of(recorded(tmp_path, options, options))
    proven(seen, 3)  # the binder and two Finished
    assert (seen.tls.version, seen.tls.cipher, seen.tls.group) == ("TLS 1.3", suite, "X25519")
    hello = step(seen, "ClientHello")
    assert "shows the pre-shared key of sensor-1 by a binder" in hello.says
    assert "binder recomputed here under the label `ext binder`: equal" in hello.result
    assert "the fresh agreement keeps it secret" in step(seen, "ServerHello").result
    assert [one.state.shared_key for one in seen.steps[1:6]] == ["shown", "taken", "taken", "taken", "proven"]


def test_tls13_without_a_fresh_agreement(tmp_path: Path) -> None:
    """psk_ke, which a server of this kind chooses when there is no group in common."""
    kept = ["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256", "-allow_no_dhe_kex", "-groups"]
    seen = trace_of(recorded(tmp_path, [*kept, "P-256"], [*kept, "X448"]))
    proven(seen, 3)
    assert seen.tls.group == ""
    assert "no fresh agreement" in step(seen, "ServerHello").result
    assert "can read everything recorded until then" in seen.summary


def test_tls13_after_a_retry_the_binder_covers_both_hellos(tmp_path: Path) -> None:
    seen = trace_of(recorded(tmp_path, ["-tls1_3", "-groups", "P-384"], ["-tls1_3"]))
    proven(seen, 4)
    assert seen.tls.retried
    assert seen.tls.group == "P-384"


def test_a_resumption_is_told_from_a_key_shared_beforehand(tmp_path: Path) -> None:
    kept, log = tmp_path / "session.pem", tmp_path / "keys.log"
    with servers.s_server(servers.ecdsa(tmp_path), "-tls1_3", "-num_tickets", "1") as (url, _):
        port = int(url.rpartition(":")[2])
        with Program("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-sess_out", kept) as first:
            first.expect("New Session Ticket arrived")
        relay = Relay(port)
        reach = ["openssl", "s_client", "-connect", f"127.0.0.1:{relay.port}", "-sess_in", kept, "-keylogfile", log]
        finished(*reach, stdin="")
        seen = trace_of(relay.recording(log, scheme="tls", key=bytes.fromhex(KEY)))
    assert (seen.outcome, seen.tls.resumed, seen.tls.psk_identity) == ("ok", True, "")
    assert (seen.proofs.right, seen.proofs.wrong) == (2, 0)
    assert {one.state.shared_key for one in seen.steps} == {"none"}
    assert "ticket of" in json.dumps(to_json(seen))


@pytest.mark.parametrize("options", [["-tls1_3"], ["-tls1_2", "-cipher", "PSK-AES128-GCM-SHA256:@SECLEVEL=0"]])
def test_another_key_than_the_trace_was_told_makes_the_proof_wrong(tmp_path: Path, options: list[str]) -> None:
    other = secrets.token_hex(32)
    seen = trace_of(recorded(tmp_path, options, options, known=other))
    assert (seen.outcome, seen.cause) == ("failed", "bad-proof")
    assert (seen.proofs.right, seen.proofs.wrong) == (2, 1)


def test_without_the_key_all_else_is_still_read(tmp_path: Path) -> None:
    proven(trace_of(recorded(tmp_path, ["-tls1_3"], ["-tls1_3"], known="")), 2)


@pytest.mark.parametrize("options", [["-tls1_3"], ["-tls1_2", "-cipher", "PSK-AES128-GCM-SHA256:@SECLEVEL=0"]])
def test_the_key_is_nowhere(tmp_path: Path, options: list[str]) -> None:
    """Neither in the trace nor in what `--save` keeps; what proves it there is no key of another connection."""
    recording = recorded(tmp_path, options, options)
    seen = trace_of(recording)
    for text in (json.dumps(to_json(seen)), repr(seen), repr(recording), recording.to_bytes().decode()):
        assert KEY not in text
        assert KEY.upper() not in text
    own = {keylog.label_of(line) for line in recording.key_log.splitlines()} & keylog.OWN
    assert own == {keylog.BINDER if options == ["-tls1_3"] else keylog.PSK_MASTER}
    again = trace_of(Recording.from_bytes(recording.to_bytes(), name="kept"))
    assert to_json(again) == to_json(seen)
