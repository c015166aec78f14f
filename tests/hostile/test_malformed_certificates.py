"""Certificates that the library reads by half: a version that does not exist, an extension that stands there twice.

What is wrong with them comes out as errors that are no ValueError; each place that reads files has its own words.
"""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sealmq.broker import estforms, soundness
from sealmq.broker.certificates import Identity
from sealmq.datafolder import DataFolder
from sealmq.errors import ConfigError, DataFolderError, NotSo
from sealmq.pki import signing
from sealmq.pki.authority import Authority
from sealmq.pki.der import SEQUENCE, children, element, wrap
from sealmq.testing import ThrowawayCA
from sealmq.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_EXTENSIONS = 0xA3
_VERSION = bytes.fromhex("a003020102")


def of_no_version(der: bytes) -> bytes:
    """Version 6 (RFC 5280, section 4.1.2.1 knows three)."""
    assert _VERSION in der
    return der.replace(_VERSION, bytes.fromhex("a003020105"), 1)


def with_one_twice(der: bytes) -> bytes:
    """Its first extension again behind the last one, against RFC 5280, section 4.2."""
    whole = element(der, 0)
    assert whole is not None
    signed, algorithm, signature = children(der, whole)
    *fields, extensions = children(der, signed)
    assert der[extensions.start] == _EXTENSIONS
    (listed,) = children(der, extensions)
    first = children(der, listed)[0]
    again = wrap(SEQUENCE, der[listed.begin : listed.end] + der[first.start : first.end])
    body = b"".join(der[one.start : one.end] for one in fields) + wrap(_EXTENSIONS, again)
    return wrap(
        SEQUENCE, wrap(SEQUENCE, body) + der[algorithm.start : algorithm.end] + der[signature.start : signature.end]
    )


def pem(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode()


spoilt = pytest.mark.parametrize("spoil", [of_no_version, with_one_twice])


@spoilt
def test_as_the_certificate_of_the_broker(spoil: Callable[[bytes], bytes]) -> None:
    """One line in the log, and the old certificates stay in force; at the start a sentence."""
    made = ThrowawayCA().issue_server("localhost")
    bad = pem(spoil(made.certificate.public_bytes(Encoding.DER)))
    identity = Identity("tls.certificate", bad, made.key_pem, SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        soundness.check_identity(identity, now=signing.utc_now())
    assert caught.value.code == "certificate-invalid"


@spoilt
def test_as_a_file_of_the_ca(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    folder = DataFolder.create_or_open(tmp_path / "data")
    root = Authority.open_or_create(folder).root.certificate
    (folder.ca_dir / "root.pem").write_bytes(pem(spoil(root.public_bytes(Encoding.DER))))
    with pytest.raises(DataFolderError) as caught:
        Authority.open_or_create(folder)
    assert caught.value.code == "ca-damaged"


@spoilt
def test_as_the_certificate_of_whoever_enrols(spoil: Callable[[bytes], bytes]) -> None:
    """OpenSSL lets through what our reader does not: a refusal, not a fault of ours."""
    der = spoil(ThrowawayCA().issue_client("sensor-1").certificate.public_bytes(Encoding.DER))
    request: Any = SimpleNamespace(state=SimpleNamespace(client_certificate=der))
    with pytest.raises(NotSo) as caught:
        estforms.client_certificate(request)
    assert caught.value.code == "certificate-unreadable"


@spoilt
def test_as_the_certificate_of_a_client(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    ca = ThrowawayCA()
    made = ca.issue_client("sensor-1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(pem(spoil(made.certificate.public_bytes(Encoding.DER))))
    key.touch(0o600)
    key.write_bytes(made.key_pem)
    (tmp_path / "ca.pem").write_bytes(ca.root_pem)
    with pytest.raises(ConfigError) as caught:
        client_context(ca=tmp_path / "ca.pem", certificate=cert, key=key)
    assert caught.value.code == "certificate-invalid"


def test_what_the_other_tests_use_is_what_it_says() -> None:
    der = ThrowawayCA().issue_client("sensor-1").certificate.public_bytes(Encoding.DER)
    with pytest.raises(x509.InvalidVersion):
        x509.load_der_x509_certificate(of_no_version(der))
    with pytest.raises(x509.DuplicateExtension):
        _ = x509.load_der_x509_certificate(with_one_twice(der)).extensions
