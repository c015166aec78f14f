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

import contextlib
import time
from typing import TYPE_CHECKING, Any

from cryptography import x509
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sealmq.broker import estforms as forms
from sealmq.errors import ConfigError, Environment, NotSo, SealmqError
from sealmq.pki import enrolment, renewal, signing
from sealmq.pki.fingerprints import certificate_sha256, issuer_key_id, key_id
from sealmq.pki.operations.results import iso
from sealmq.pki.registry import Approval, CertificateStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from starlette.requests import Request

    from sealmq.pki.authority import Authority
    from sealmq.pki.enrolment import Issued
    from sealmq.pki.registry import CertificateRecord, Device, Registry

    Event = dict[str, Any]

CAUSE_HEADER = "Sealmq-Cause"
"""The header of an answer that is no certificate: the slug of the cause, as in the log."""

ASK_AGAIN_SECONDS = 60
"""How long a device that waits for an approval should wait before it asks again (RFC 7030, 4.2.3)."""

_STATUS = {
    "token-missing": 401,
    "token-unknown": 401,
    "token-used": 401,
    "token-expired": 401,
    "approval-queue-full": 503,
    "request-too-large": 413,
    "renewals-too-many": 429,
}
_BAD_REQUEST = "request-"  # the codes of a certificate request that is not taken; every other refusal is 403


class Registrar:
    """Answers enrolment requests. What it did, and whom it refused, goes to `tell` as an event each.

    Events: `issued` {`device`, `how` (`token`|`certificate`|`factory`), `sha256`, `not_after`, `peer`},
    `approval-wanted` {`device`, `subject`, `peer`}, `fell-back` {`device`, `sha256`, `peer`} for a renewal by a
    certificate that was superseded, and `refused` as the data plane has it, with stage `enrolment`.
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
        return forms.as_pkcs7([*roots, self._authority.device_issuer.certificate])

    def _csrattrs(self, _request: Request) -> Response:
        return forms.csr_attributes()

    async def _simpleenroll(self, request: Request) -> Response:
        return await self._answer(request, self._by_credentials, forms.pkcs7_of)

    async def _simplereenroll(self, request: Request) -> Response:
        return await self._answer(request, self._by_certificate, forms.pkcs7_of)

    async def _enrol(self, request: Request) -> Response:
        return await self._answer(request, self._by_credentials, forms.pem_of)

    def _renewal_info(self, request: Request) -> Response:
        now = signing.utc_now()
        try:
            record, device = self._holder(forms.needed_certificate(request), now)
        except SealmqError as error:
            return self._refuse(request, error)
        found = renewal.window(record, incidents=tuple(self._incidents()))
        _, version = self._authority.bundle()
        return JSONResponse(
            {
                "device": device.id,
                "certificate": record.sha256,
                "not_after": iso(record.not_after),
                "window": {"start": iso(found.start), "end": iso(found.end)},
                "reason": found.reason,
                "retry_after": int(renewal.retry_after(found, now).total_seconds()),
                "bundle": version,
                "mqtts_port": self._mqtts_port(),
            }
        )

    def _note_bundle(self, request: Request) -> None:
        """A device that fetches the roots with its certificate holds this version of them from now on."""
        with contextlib.suppress(SealmqError):  # whoever cannot be noted is given the roots all the same
            certificate, now = forms.client_certificate(request), signing.utc_now()
            if certificate is not None:
                _, device = self._holder(certificate, now)
                _, version = self._authority.bundle()
                self._registry.bundles.confirm(device.id, version, at=now)

    def _holder(self, certificate: x509.Certificate, now: datetime) -> tuple[CertificateRecord, Device]:
        sha256 = certificate_sha256(certificate)
        return enrolment.holder(self._authority, self._registry, sha256=sha256, now=now, grace=self._grace())

    async def _answer(
        self,
        request: Request,
        issue: Callable[[Request, bytes], Issued | Approval],
        form: Callable[[Issued], Response],
    ) -> Response:
        try:
            found = await run_in_threadpool(issue, request, await forms.certificate_request(request))
        except SealmqError as error:
            return self._refuse(request, error)
        if isinstance(found, Approval):
            text = f"device {found.device_id} waits for an operator to approve it\n"
            headers = {"Retry-After": str(ASK_AGAIN_SECONDS), CAUSE_HEADER: "approval-waiting"}
            return PlainTextResponse(text, status_code=202, headers=headers)
        return form(found)

    def _by_credentials(self, request: Request, body: bytes) -> Issued | Approval:
        """Whatever the sender has: a token, a certificate of ours, or one of a factory."""
        device_id, token = forms.authorization(request)
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
        certificate = forms.client_certificate(request)
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
        sha256 = certificate_sha256(forms.needed_certificate(request))
        issued = enrolment.by_certificate(
            self._authority,
            self._registry,
            sha256=sha256,
            request=body,
            now=signing.utc_now(),
            grace=self._grace(),
        )
        self._note_fallen_back(request, sha256)
        return self._issued(request, issued, "certificate")

    def _note_fallen_back(self, request: Request, sha256: str) -> None:
        """Whoever renews with a certificate that was replaced may be somebody with a copy of the old key."""
        record = self._registry.certificate(sha256)
        if record is not None and record.status == CertificateStatus.SUPERSEDED:
            self._note(
                "fell-back",
                device=record.device_id,
                sha256=sha256,
                peer=forms.peer_of(request),
                summary=f"device {record.device_id} renews with a certificate that it had replaced",
                mend="look at the device: its renewal was undone, or somebody has a copy of its old key",
            )

    def _by_factory_certificate(
        self, request: Request, certificate: x509.Certificate, body: bytes
    ) -> Issued | Approval:
        found = enrolment.by_factory_certificate(
            self._authority,
            self._registry,
            certificate=certificate,
            factories=self._factories(),
            request=body,
            peer=forms.peer_of(request),
            now=signing.utc_now(),
        )
        if isinstance(found, Approval):
            self._note("approval-wanted", device=found.device_id, subject=found.subject, peer=forms.peer_of(request))
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
            not_after=iso(issued.certificate.not_valid_after_utc),
            peer=forms.peer_of(request),
        )
        return issued

    def _refuse(self, request: Request, error: SealmqError) -> Response:
        self._note(
            "refused",
            peer=forms.peer_of(request),
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
