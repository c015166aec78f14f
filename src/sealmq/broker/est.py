"""Enrolment over HTTPS: EST (RFC 7030, RFC 8951) and, for what speaks only HTTP, the same with PEM in and out.

It refuses to decide who gets a certificate; `sealmq.pki.enrolment` does. Here requests become arguments and answers.

| | who asks | in | out |
|---|---|---|---|
| `GET /.well-known/est/cacerts` | anybody | | the CA, PKCS #7 |
| `GET /.well-known/est/csrattrs` | anybody | | what a request should be like |
| `POST /.well-known/est/simpleenroll` | HTTP basic ID:TOKEN, or a factory certificate | PKCS #10 | PKCS #7 |
| `POST /.well-known/est/simplereenroll` | the certificate to be renewed | PKCS #10 | PKCS #7 |
| `POST /enrol` | a bearer TOKEN, or as the two above | PEM | PEM |
| `GET /renewal-info` | the certificate | | JSON: when to renew |

EST's bodies are base64. It is taken with and without line breaks, and PEM and DER too; it is sent in one line, because
strongSwan's `pki --est` reads nothing else. The headers of a request do not matter (RFC 8951, section 3).
"""

from __future__ import annotations

import base64
import binascii
import time
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sealmq.errors import ConfigError, Environment, NotSo, SealmqError
from sealmq.pki import enrolment, renewal, requests, signing
from sealmq.pki.fingerprints import certificate_sha256, issuer_key_id, key_id
from sealmq.pki.registry import Approval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime, timedelta

    from starlette.requests import Request

    from sealmq.pki.authority import Authority
    from sealmq.pki.enrolment import Issued
    from sealmq.pki.registry import Registry

    Event = dict[str, Any]

CAUSE_HEADER = "Sealmq-Cause"
"""The header of an answer that is no certificate: the slug of the cause, as in the log."""

ASK_AGAIN_SECONDS = 60
"""How long a device that waits for an approval should wait before it asks again (RFC 7030, 4.2.3)."""

_BASE64 = {"Content-Transfer-Encoding": "base64"}
_STATUS = {
    "token-missing": 401,
    "token-unknown": 401,
    "token-used": 401,
    "token-expired": 401,
    "approval-queue-full": 503,
    "request-too-large": 413,
}
_BAD_REQUEST = "request-"  # the codes of a certificate request that is not taken; every other refusal is 403

# CsrAttrs (RFC 8951, section 3.2.2): a P-256 key, signed with ECDSA and SHA-256. No challengePassword is asked for.
_CSR_ATTRIBUTES = bytes.fromhex(
    "3021"  # SEQUENCE
    "3015 06072a8648ce3d0201 310a 06082a8648ce3d030107"  # Attribute: id-ecPublicKey, SET { prime256v1 }
    "06082a8648ce3d040302"  # ecdsa-with-SHA256
)


class Registrar:
    """Answers enrolment requests. What it did, and whom it refused, goes to `tell` as an event each.

    Events: `issued` {`device`, `how` (`token`|`certificate`|`factory`), `sha256`, `not_after`, `peer`},
    `approval-wanted` {`device`, `subject`, `peer`}, and `refused` as the data plane has it, with stage `enrolment`.
    """

    def __init__(
        self,
        authority: Authority,
        registry: Registry,
        *,
        tell: Callable[[Event], None],
        grace: Callable[[], timedelta],
        incidents: Callable[[], Sequence[renewal.Incident]],
        factories: Callable[[], Sequence[x509.Certificate]],
        mqtts_port: Callable[[], int | None],
    ) -> None:
        """`grace`, `incidents` and `factories` (CAs whose devices may ask) are settings, asked for at each request;
        `mqtts_port` is where devices connect.
        """
        self._authority = authority
        self._registry = registry
        self._tell = tell
        self._grace = grace
        self._incidents = incidents
        self._factories = factories
        self._mqtts_port = mqtts_port

    def routes(self) -> list[Route]:
        """What to serve."""
        est = "/.well-known/est"
        return [
            Route(f"{est}/cacerts", self._cacerts),
            Route(f"{est}/csrattrs", self._csrattrs),
            Route(f"{est}/simpleenroll", self._simpleenroll, methods=["POST"]),
            Route(f"{est}/simplereenroll", self._simplereenroll, methods=["POST"]),
            Route("/enrol", self._enrol, methods=["POST"]),
            Route("/renewal-info", self._renewal_info),
        ]

    def _cacerts(self, request: Request) -> Response:
        """RFC 7030, 4.1.3: the roots, and the issuing CA for devices, which clients need to build their own chain."""
        self._note_bundle(request)
        roots = x509.load_pem_x509_certificates(self._authority.server_ca_pem())
        return _pkcs7([*roots, self._authority.device_issuer.certificate])

    def _csrattrs(self, _request: Request) -> Response:
        return Response(base64.b64encode(_CSR_ATTRIBUTES), media_type="application/csrattrs", headers=_BASE64)

    async def _simpleenroll(self, request: Request) -> Response:
        return await self._answer(request, self._by_credentials, _pkcs7_of)

    async def _simplereenroll(self, request: Request) -> Response:
        return await self._answer(request, self._by_certificate, _pkcs7_of)

    async def _enrol(self, request: Request) -> Response:
        return await self._answer(request, self._by_credentials, _pem_of)

    def _renewal_info(self, request: Request) -> Response:
        now = signing.utc_now()
        try:
            sha256 = certificate_sha256(_needed_certificate(request))
            record, device = enrolment.holder(self._registry, sha256=sha256, now=now, grace=self._grace())
        except SealmqError as error:
            return self._refuse(request, error)
        found = renewal.window(record, incidents=tuple(self._incidents()))
        _, version = self._authority.bundle()
        return JSONResponse(
            {
                "device": device.id,
                "certificate": sha256,
                "not_after": _iso(record.not_after),
                "window": {"start": _iso(found.start), "end": _iso(found.end)},
                "reason": found.reason,
                "retry_after": int(renewal.retry_after(found, now).total_seconds()),
                "bundle": version,
                "mqtts_port": self._mqtts_port(),
            }
        )

    def _note_bundle(self, request: Request) -> None:
        """A device that fetches the roots with its certificate holds this version of them from now on."""
        certificate = _client_certificate(request)
        record = self._registry.certificate(certificate_sha256(certificate)) if certificate else None
        if record is not None:
            _, version = self._authority.bundle()
            self._registry.bundles.confirm(record.device_id, version, at=signing.utc_now())

    async def _answer(
        self,
        request: Request,
        issue: Callable[[Request, bytes], Issued | Approval],
        form: Callable[[Issued], Response],
    ) -> Response:
        try:
            body = _decoded(await _body(request))
            found = await run_in_threadpool(issue, request, body)
        except SealmqError as error:
            return self._refuse(request, error)
        if isinstance(found, Approval):
            text = f"device {found.device_id} waits for an operator to approve it\n"
            headers = {"Retry-After": str(ASK_AGAIN_SECONDS), CAUSE_HEADER: "approval-waiting"}
            return PlainTextResponse(text, status_code=202, headers=headers)
        return form(found)

    def _by_credentials(self, request: Request, body: bytes) -> Issued | Approval:
        """Whatever the sender has: a token, a certificate of ours, or one of a factory."""
        device_id, token = _authorization(request)
        if token is not None:
            issued = enrolment.by_token(
                self._authority,
                self._registry,
                token=token,
                device_id=device_id,
                request=body,
                now=signing.utc_now(),
            )
            return self._issued(request, issued, "token")
        certificate = _client_certificate(request)
        if certificate is None:
            raise NotSo(
                "enrolment request has neither a token nor a client certificate",
                mend="send the token as HTTP basic ID:TOKEN, or as a bearer token",
                code="token-missing",
            )
        if self._is_own(certificate):
            return self._by_certificate(request, body)
        return self._by_factory_certificate(request, certificate, body)

    def _by_certificate(self, request: Request, body: bytes) -> Issued:
        issued = enrolment.by_certificate(
            self._authority,
            self._registry,
            sha256=certificate_sha256(_needed_certificate(request)),
            request=body,
            now=signing.utc_now(),
            grace=self._grace(),
        )
        return self._issued(request, issued, "certificate")

    def _by_factory_certificate(
        self, request: Request, certificate: x509.Certificate, body: bytes
    ) -> Issued | Approval:
        found = enrolment.by_factory_certificate(
            self._authority,
            self._registry,
            certificate=certificate,
            factories=self._factories(),
            request=body,
            peer=_peer(request),
            now=signing.utc_now(),
        )
        if isinstance(found, Approval):
            self._note("approval-wanted", device=found.device_id, subject=found.subject, peer=_peer(request))
            return found
        return self._issued(request, found, "factory")

    def _is_own(self, certificate: x509.Certificate) -> bool:
        issuers = (member.issuer.key.public_key() for member in self._authority.device_issuers())
        return issuer_key_id(certificate) in {key_id(key) for key in issuers}

    def _issued(self, request: Request, issued: Issued, how: str) -> Issued:
        self._note(
            "issued",
            device=issued.device_id,
            how=how,
            sha256=certificate_sha256(issued.certificate),
            not_after=_iso(issued.certificate.not_valid_after_utc),
            peer=_peer(request),
        )
        return issued

    def _refuse(self, request: Request, error: SealmqError) -> Response:
        self._note(
            "refused",
            peer=_peer(request),
            listener="https",
            stage="enrolment",
            cause=error.code or "enrolment-failed",
            summary=error.message,
            mend=error.mend,
        )
        status = _status(error)
        headers = {CAUSE_HEADER: error.code}
        if status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="sealmq enrolment", charset="UTF-8"'
        lines = [error.message, *([f"mend: {error.mend}"] if error.mend else [])]
        return PlainTextResponse("\n".join(lines) + "\n", status_code=status, headers=headers)

    def _note(self, event: str, **fields: object) -> None:
        self._tell({"event": event, "at": int(time.time() * 1000), **fields})


def _status(error: SealmqError) -> int:
    if isinstance(error, Environment | ConfigError):  # our side: a full disk, a wrong clock
        return 503
    if error.code in _STATUS:
        return _STATUS[error.code]
    return 400 if error.code.startswith(_BAD_REQUEST) else 403


async def _body(request: Request) -> bytes:
    """The body of a request, as long as it is not longer than any certificate request in base64 has to be."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > requests.LARGEST * 3 // 2:
            raise NotSo(
                f"certificate request is larger than {requests.LARGEST // 1024} KiB",
                mend="send one PKCS #10 request and nothing else",
                code="request-too-large",
            )
    return bytes(body)


def _decoded(body: bytes) -> bytes:
    """Base64 taken off; PEM and DER are left as they are, and what is none of them is for others to name."""
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        return body


def _authorization(request: Request) -> tuple[str | None, str | None]:
    """Device id and token of a request; None for what it does not say. Raises `NotSo` for what cannot be read."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        return None, None
    if scheme.lower() == "bearer":
        return None, rest.strip()
    if scheme.lower() == "basic":
        try:
            device_id, separator, token = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
        except ValueError:
            separator = ""
        if separator:
            return device_id, token
    raise NotSo(
        "authorization of the request is not understood",
        mend="send HTTP basic ID:TOKEN, or a bearer token",
        code="token-missing",
    )


def _client_certificate(request: Request) -> x509.Certificate | None:
    der: bytes | None = request.state.client_certificate
    if der is None:
        return None
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise NotSo(
            f"client certificate cannot be read: {' '.join(str(error).split())}",
            mend="look at it with: sealmq cert show FILE",
            code="certificate-unreadable",
        ) from None


def _needed_certificate(request: Request) -> x509.Certificate:
    certificate = _client_certificate(request)
    if certificate is None:
        raise NotSo(
            "renewal needs the certificate that is to be renewed, as the client certificate of the connection",
            mend="with curl: --cert cert.pem --key key.pem; without one, enrol with a token",
            code="certificate-missing",
        )
    return certificate


def _peer(request: Request) -> str:
    if request.client is None:
        return ""
    host = f"[{request.client.host}]" if ":" in request.client.host else request.client.host
    return f"{host}:{request.client.port}"


def _pkcs7(certificates: Iterable[x509.Certificate]) -> Response:
    body = base64.b64encode(pkcs7.serialize_certificates(list(certificates), Encoding.DER))
    return Response(body, media_type="application/pkcs7-mime; smime-type=certs-only", headers=_BASE64)


def _pkcs7_of(issued: Issued) -> Response:
    """RFC 7030, 4.2.3: only the certificate itself; the CA is at `cacerts`."""
    return _pkcs7([issued.certificate])


def _pem_of(issued: Issued) -> Response:
    return Response(issued.chain_pem, media_type="application/x-pem-file")


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
