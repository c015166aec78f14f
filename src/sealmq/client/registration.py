"""A device's side of enrolment over HTTPS: the CA by its pin, a certificate for its key, and when to renew it.

It refuses to keep anything: keys and certificates come as arguments and go back as results.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import ssl
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sealmq.errors import NotSo, PeerFault, SealmqError, UsageError
from sealmq.tls import policy

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

    from sealmq.pki.devicefiles import DeviceFiles

_SECONDS = 30.0
_LARGEST = 1 << 20  # bytes of an answer
_CAUSE_HEADER = "Sealmq-Cause"


@dataclass(frozen=True, slots=True)
class RenewalInfo:
    """What the server suggests: renew from `start` on, before `end`; ask again after `retry_after` seconds.

    `bundle` is the version of the CA's roots, `mqtts_port` where devices connect (None: nowhere by MQTTS).
    """

    start: datetime
    end: datetime
    reason: str
    retry_after: float
    bundle: int
    mqtts_port: int | None


class RegistrationServer:
    """The HTTPS door of a broker, `https://HOST:PORT`. One connection per call.

    Calls raise `NotSo` with the server's own words and code when it refuses, with code `server-unreachable` or `tls`
    when there is no verified connection, and `PeerFault` for an answer that makes no sense.
    """

    def __init__(self, url: str) -> None:
        """Raises `UsageError` with code `url-invalid`."""
        try:
            parts = urlsplit(url)
            port = parts.port or 443
        except ValueError:
            raise _bad_url(url) from None
        if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise _bad_url(url)
        self.host, self.port = parts.hostname, port

    def __str__(self) -> str:
        return f"https://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def roots_by_pin(self, pin: str) -> bytes:
        """What this fleet trusts, PEM, reached through the one certificate whose public key has that SHA-256 (hex).

        The first connection verifies nothing and takes nothing but a certificate that fits the pin; the second one
        verifies the server by that certificate alone. Raises `NotSo` with code `pin-mismatch`.
        """
        from sealmq.pki.fingerprints import spki_sha256
        from sealmq.pki.signing import certificate_pem

        unverified = _context()
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE  # nothing secret goes out, and what comes in is compared with the pin
        pinned = [one for one in self._cacerts(unverified) if spki_sha256(one) == pin]
        if not pinned:
            raise NotSo(
                f"server {self} is of another CA than the one that the enrolment URI names",
                mend="somebody is in between, or the CA was replaced: ask for a new token",
                code="pin-mismatch",
            )
        verified = _context()
        verified.load_verify_locations(cadata=certificate_pem(pinned[0]).decode())
        return self._roots(verified)

    def roots(self, files: DeviceFiles) -> bytes:
        """What this fleet trusts now, PEM; the server is told that this device has it."""
        return self._roots(_identified(files))

    def enrol(self, request: bytes, *, token: str, ca_pem: bytes) -> bytes:
        """The certificate chain, PEM, for a PEM request and a one-time token."""
        context = _context()
        context.load_verify_locations(cadata=ca_pem.decode())
        return self._certificate(context, request, {"Authorization": f"Bearer {token}"})

    def renew(self, request: bytes, files: DeviceFiles) -> bytes:
        """The next certificate chain, PEM, for a PEM request, shown the present one, expired or not."""
        return self._certificate(_identified(files), request, {})

    def renewal_info(self, files: DeviceFiles) -> RenewalInfo:
        """When the certificate in `files` is to be renewed."""
        answer = self._call(_identified(files), "GET", "/renewal-info")
        try:
            found: dict[str, Any] = json.loads(answer)
            window, port = found["window"], found.get("mqtts_port")
            return RenewalInfo(
                start=datetime.fromisoformat(window["start"]),
                end=datetime.fromisoformat(window["end"]),
                reason=str(found["reason"]),
                retry_after=float(found["retry_after"]),
                bundle=int(found["bundle"]),
                mqtts_port=None if port is None else int(port),
            )
        except (ValueError, KeyError, TypeError):
            raise self._nonsense("/renewal-info") from None

    def _roots(self, context: ssl.SSLContext) -> bytes:
        """Of the certificates at `cacerts` those that sign themselves; the others are for building chains."""
        from sealmq.pki.signing import certificate_pem

        roots = [one for one in self._cacerts(context) if one.subject == one.issuer]
        if not roots:  # written over what the device has, it would trust nobody
            raise self._nonsense("/.well-known/est/cacerts")
        return certificate_pem(*roots)

    def _cacerts(self, context: ssl.SSLContext) -> list[x509.Certificate]:
        from cryptography.hazmat.primitives.serialization import pkcs7

        answer = self._call(context, "GET", "/.well-known/est/cacerts")
        try:
            return pkcs7.load_der_pkcs7_certificates(base64.b64decode(b"".join(answer.split()), validate=True))
        except (binascii.Error, ValueError):
            raise self._nonsense("/.well-known/est/cacerts") from None

    def _certificate(self, context: ssl.SSLContext, request: bytes, headers: dict[str, str]) -> bytes:
        headers = {"Content-Type": "application/x-pem-file", **headers}
        answer = self._call(context, "POST", "/enrol", body=request, headers=headers)
        if b"-----BEGIN CERTIFICATE-----" not in answer:
            raise self._nonsense("/enrol")
        return answer

    def _call(
        self,
        context: ssl.SSLContext,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=_SECONDS, context=context)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            content = answer.read(_LARGEST)
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or str(error)
            raise NotSo(
                f"server {self} could not be verified, or did not take the certificate: {reason.lower()}",
                mend="check the clock and the CA file of the device; the log of the broker has more",
                code="tls",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
            raise NotSo(
                f"server {self} cannot be reached: {reason}",
                mend="check host and port, and that the broker runs with https on an address that can be reached",
                code="server-unreachable",
            ) from None
        finally:
            connection.close()
        if answer.status == http.client.OK:
            return content
        raise self._refusal(answer, content, path)

    def _refusal(self, answer: http.client.HTTPResponse, content: bytes, path: str) -> SealmqError:
        code = answer.getheader(_CAUSE_HEADER)
        message, _, mend = content.decode(errors="replace").strip().partition("\n")
        if code is None or not message.isprintable():
            return PeerFault(
                f"server {self} answered {path} with status {answer.status}",
                mend="check that it is a sealmq broker",
                code="server-answer",
            )
        return NotSo(message, mend=mend.removeprefix("mend: ") if mend.isprintable() else "", code=code)

    def _nonsense(self, path: str) -> PeerFault:
        return PeerFault(
            f"answer of {self} to {path} makes no sense", mend="check that it is a sealmq broker", code="server-answer"
        )


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = policy.MINIMUM_VERSION
    context.set_ciphers(policy.OPENSSL_CIPHERS)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a pinned bridge or issuing CA is an anchor too
    return context


def _identified(files: DeviceFiles) -> ssl.SSLContext:
    """Trust and certificate of a device. Unlike `sealmq.tls` this takes an expired one: the server may renew it."""
    from sealmq.errors import ConfigError

    context = _context()
    try:
        context.load_verify_locations(cafile=files.ca)
        context.load_cert_chain(files.cert, files.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"files of the device in {_folder(files)} cannot be used: {(error.strerror or str(error)).lower()}",
            mend="they must be cert.pem, key.pem and ca.pem, of one device",
            code="device-files",
        ) from None
    return context


def _folder(files: DeviceFiles) -> Path:
    return files.cert.parent


def _bad_url(url: str) -> UsageError:
    return UsageError(
        f"URL {url!r} is not that of an HTTPS server", mend="write https://HOST:PORT and no more", code="url-invalid"
    )
