"""Every form of handshake that the decoder knows, against openssl's server: all is read, every proof comes out right.

A wrong key, a message missing in the transcript, or a signature over the wrong bytes would show as a wrong proof.
"""

import json
import os
import threading
from pathlib import Path

import pytest
import servers

from programs import run_sealmq
from sealmq import trace
from sealmq.trace.build import trace_of
from sealmq.trace.live import recorder
from sealmq.trace.model import Trace, from_json
from sealmq.trace.request import Bounds, Identity, Request
from sealmq.trace.target import Target
from sealmq.trace.tls.decode import Decoder
from sealmq.trace.tls.keylog import Secrets


def names(seen: Trace, who: str = "") -> list[str]:
    """The messages on the wire, of one side or of both."""
    return [step.message for step in seen.steps if step.who != "here" and (not who or step.who == who)]


def proven(seen: Trace, count: int) -> None:
    """It went well, all was readable, and so many proofs were made and are right."""
    assert (seen.outcome, seen.cause) == ("ok", None), seen.evidence
    assert seen.proofs.right == count
    assert seen.proofs.wrong == seen.proofs.unchecked == 0
    assert "UnreadableRecord" not in names(seen)
    last = seen.steps[-1].state
    assert last.handshake == "CONNECTED"
    assert last.certificate.transcript_bound


# --- TLS 1.3 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
def test_tls13_suites(tmp_path: Path, suite: str) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files, "-tls1_3", "-ciphersuites", suite) as (url, _):
        seen = trace.record(url, ca=files.ca)
    proven(seen, 3)
    assert (seen.tls.version, seen.tls.cipher, seen.tls.group) == ("TLS 1.3", suite, "X25519")
    assert seen.tls.key_exchange == "key-agreement"
    assert names(seen)[:6] == [
        "ClientHello",
        "ServerHello",
        "EncryptedExtensions",
        "Certificate",
        "CertificateVerify",
        "Finished",
    ]
    assert names(seen).count("NewSessionTicket") == 2


@pytest.mark.parametrize("suite", ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"])
def test_tls13_suites_that_openssl_offers_by_configuration_alone(tmp_path: Path, suite: str) -> None:
    files = servers.ecdsa(tmp_path)
    settings = tmp_path / "openssl.cnf"
    settings.write_text(
        "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = default\n"
        f"[default]\nCiphersuites = {suite}\nCipherString = DEFAULT:@SECLEVEL=0\n"
    )
    environment = os.environ | {"OPENSSL_CONF": str(settings)}
    with servers.s_server(files, "-tls1_3", "-ciphersuites", suite, "-cipher", "ALL:@SECLEVEL=0") as (url, _):
        done = run_sealmq("trace", url, "--cafile", files.ca, "--json", env=environment)
    seen = from_json(json.loads(done.stdout))
    proven(seen, 3)
    assert (seen.tls.version, seen.tls.cipher) == ("TLS 1.3", suite)
    assert names(seen).count("NewSessionTicket") == 2


def test_tls13_with_an_rsa_certificate(tmp_path: Path) -> None:
    files = servers.rsa_2048(tmp_path)
    with servers.s_server(files, "-tls1_3") as (url, _):
        seen = trace.record(url, ca=files.ca)
    proven(seen, 3)
    verify = next(step for step in seen.steps if step.message == "CertificateVerify")
    assert "rsa_pss_rsae_sha256" in verify.result


def test_a_hello_retry_request(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files, "-tls1_3", "-groups", "P-384") as (url, _):
        seen = trace.record(url, ca=files.ca)
    proven(seen, 3)
    assert names(seen)[:4] == ["ClientHello", "HelloRetryRequest", "ClientHello", "ServerHello"]
    assert seen.tls.retried
    assert seen.tls.group == "P-384"
    assert seen.totals.handshake_round_trips == 3


@pytest.mark.parametrize("version", ["1.3", "1.2"])
def test_a_client_certificate(tmp_path: Path, version: str) -> None:
    files = servers.ecdsa(tmp_path)
    (tmp_path / "client").mkdir()
    mine = servers.ecdsa(tmp_path / "client")
    with servers.s_server(files, "-Verify", "1", f"-tls{version.replace('.', '_')}") as (url, _):
        seen = trace.record(url, ca=files.ca, certificate=mine.cert, key=mine.key)
    assert names(seen, "client").count("CertificateVerify") == 1
    proven(seen, 4)  # both sides sign, the server in TLS 1.2 with its ServerKeyExchange, and both have a Finished


def test_a_key_update(tmp_path: Path) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files, "-tls1_3", "-num_tickets", "0") as (url, server):

        def ask() -> None:
            server.expect("^CIPHER is")
            server.send("K\n")
            server.expect("^SSL_do_handshake -> 1")
            server.send("hello\n")

        asking = threading.Thread(target=ask)
        asking.start()
        request = Request(Target.parse(url), Identity(files.ca), bounds=Bounds(settle=1.5))
        seen = trace_of(recorder.run(request))
        asking.join()
    proven(seen, 3)
    after = names(seen, "server")
    assert after[after.index("KeyUpdate") :] == [
        "KeyUpdate",
        "ApplicationData",
        "Alert",
    ]  # under the next key, and read


def test_messages_spread_over_small_records(tmp_path: Path) -> None:
    files = servers.rsa_2048(tmp_path)
    with servers.s_server(files, "-tls1_3", "-max_send_frag", "512") as (url, _):
        seen = trace.record(url, ca=files.ca)
    proven(seen, 3)
    certificate = next(step for step in seen.steps if step.message == "Certificate")
    assert certificate.records >= 2


@pytest.mark.parametrize("version", ["1.3", "1.2"])
def test_a_resumed_session(tmp_path: Path, version: str) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files, f"-tls{version.replace('.', '_')}") as (url, _):
        seen = trace.record(url, ca=files.ca, resume=True)
    proven(seen, 2)  # no certificate, two Finished
    assert seen.tls.resumed
    assert "Certificate" not in names(seen)
    assert seen.tls.key_exchange == ("key-agreement" if version == "1.3" else "psk")
    assert seen.previous is not None
    proven(seen.previous, 3)
    assert not seen.previous.tls.resumed
    assert seen.totals.handshake_bytes < seen.previous.totals.handshake_bytes


# --- TLS 1.2 ------------------------------------------------------------------------------------------------------

ECDSA_SUITES = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "ECDHE-ECDSA-AES128-CCM": "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
    "ECDHE-ECDSA-AES256-CCM8": "TLS_ECDHE_ECDSA_WITH_AES_256_CCM_8",
    "ECDHE-ECDSA-AES128-SHA256": "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "ECDHE-ECDSA-AES256-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
    "ECDHE-ECDSA-AES128-SHA": "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "ECDHE-ECDSA-NULL-SHA": "TLS_ECDHE_ECDSA_WITH_NULL_SHA",
}
RSA_SUITES = {
    "ECDHE-RSA-AES128-GCM-SHA256": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "DHE-RSA-AES128-GCM-SHA256": "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
    "DHE-RSA-AES256-SHA256": "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256",
}
TRANSPORT_SUITES = {
    "AES128-GCM-SHA256": "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "AES256-GCM-SHA384": "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "AES128-CCM8": "TLS_RSA_WITH_AES_128_CCM_8",
    "AES256-SHA256": "TLS_RSA_WITH_AES_256_CBC_SHA256",
    "AES128-SHA": "TLS_RSA_WITH_AES_128_CBC_SHA",
}


def tls12(files: servers.Certified, suite: str, *options: str) -> Trace:
    ciphers = f"{suite}:@SECLEVEL=0"
    with servers.s_server(files, "-tls1_2", "-cipher", ciphers, *options) as (url, _):
        return trace.record(url, ca=files.ca, ciphers=ciphers, tls="1.2")


@pytest.mark.parametrize(("suite", "name"), ECDSA_SUITES.items())
def test_tls12_with_an_ecdsa_certificate(tmp_path: Path, suite: str, name: str) -> None:
    seen = tls12(servers.ecdsa(tmp_path), suite)
    proven(seen, 3)  # the signature of ServerKeyExchange, two Finished
    assert (seen.tls.version, seen.tls.cipher, seen.tls.group) == ("TLS 1.2", name, "X25519")
    assert seen.tls.key_exchange == "key-agreement"
    assert "NewSessionTicket" in names(seen)


@pytest.mark.parametrize(("suite", "name"), RSA_SUITES.items())
def test_tls12_with_an_rsa_certificate(tmp_path: Path, suite: str, name: str) -> None:
    seen = tls12(servers.rsa_2048(tmp_path), suite)
    proven(seen, 3)
    assert seen.tls.cipher == name
    assert seen.tls.key_exchange == "key-agreement"


@pytest.mark.parametrize(("suite", "name"), TRANSPORT_SUITES.items())
def test_tls12_with_the_encrypted_key_sent(tmp_path: Path, suite: str, name: str) -> None:
    seen = tls12(servers.rsa_2048(tmp_path), suite)
    proven(seen, 2)
    assert seen.tls.cipher == name
    assert seen.tls.key_exchange == "key-transport"
    assert "ServerKeyExchange" not in names(seen)
    sent = next(step for step in seen.steps if step.message == "ClientKeyExchange")
    assert "encrypted to the RSA key" in sent.says
    before, after = (
        next(step for step in seen.steps if step.message == name) for name in ("ServerHelloDone", "session keys")
    )
    assert before.state.secrets == ()
    assert [secret.origin for secret in after.state.secrets] == [
        "sent by the client, encrypted to the server's RSA key"
    ]


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA384"])
def test_cbc_with_the_mac_first(tmp_path: Path, suite: str) -> None:
    seen = tls12(servers.ecdsa(tmp_path), suite, "-no_etm")
    proven(seen, 3)
    assert "encrypt-then-MAC" not in seen.steps[2].says
    with_it = tls12(servers.ecdsa(tmp_path), suite)
    assert "encrypt-then-MAC" in with_it.steps[2].says


@pytest.mark.parametrize("version", ["1", "1_1"])
def test_versions_that_are_gone_can_be_looked_at(tmp_path: Path, version: str) -> None:
    files = servers.rsa_2048(tmp_path)
    with servers.s_server(files, f"-tls{version}", "-cipher", "ALL:@SECLEVEL=0") as (url, _):
        seen = trace.record(url, ca=files.ca, legacy=True)
        refused = trace.record(url, ca=files.ca)
    assert seen.tls.version == ("TLS 1.0" if version == "1" else "TLS 1.1")
    assert seen.outcome == "ok"
    assert seen.proofs.wrong == 0
    assert seen.proofs.right == 2  # Finished; a signature over MD5 and SHA-1 together is not checked
    assert refused.cause == "tls-version-too-old"


# --- what holds for all of them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["-tls1_3", "-tls1_2"])
def test_every_byte_on_the_wire_belongs_to_a_message(tmp_path: Path, option: str) -> None:
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files, option) as (url, _):
        recording = recorder.run(Request(Target.parse(url), Identity(files.ca)))
    decoder = Decoder(Secrets(recording.key_log))
    for event in recording.connections[0]:
        if event.kind in ("sent", "received"):
            messages = decoder.feed(event.kind, event.data)
            assert sum(message.wire for message in messages) == len(event.data)


def test_a_changed_byte_makes_a_proof_wrong(tmp_path: Path) -> None:
    """The self-check can fail: the server's random differs from the one that was signed and bound."""
    files = servers.ecdsa(tmp_path)
    with servers.s_server(files, "-tls1_2") as (url, _):
        recording = recorder.run(Request(Target.parse(url), Identity(files.ca)))
    decoder = Decoder(Secrets(recording.key_log))
    proofs = []
    for event in recording.connections[0]:
        data = event.data
        if event.kind == "received" and data[5:6] == b"\x02":
            data = data[:20] + bytes([data[20] ^ 1]) + data[21:]
        if event.kind in ("sent", "received"):
            proofs += [message.proof.outcome.value for message in decoder.feed(event.kind, data) if message.proof]
    assert proofs[0] == "wrong"


def test_nothing_secret_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sealmq.trace import render

    files = servers.ecdsa(tmp_path)
    with servers.s_server(files, "-tls1_3") as (url, _):
        recording = recorder.run(Request(Target.parse(url), Identity(files.ca)))
    seen = trace_of(recording)
    render.show(seen, explain=True, verbose=True)
    printed = capsys.readouterr().out + repr(seen) + repr(recording)
    secrets = [line.split()[2].decode() for line in recording.key_log.splitlines()]
    assert len(secrets) == 5
    assert not any(secret in printed for secret in secrets)
