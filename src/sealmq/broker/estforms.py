"""How enrolment looks on the wire: requests and credentials taken out of HTTP, certificates put into it.

It refuses to know what a request leads to.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from starlette.responses import Response

from sealmq.errors import NotSo
from sealmq.pki import requests
from sealmq.pki.malformed import MALFORMED, reason, whole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from sealmq.pki.enrolment import Issued

_BASE64 = {"Content-Transfer-Encoding": "base64"}

# A P-256 key, and a signature by ECDSA with SHA-256.
_CSR_ATTRIBUTES = bytes.fromhex(
    "3021"  # SEQUENCE
    "3015 06072a8648ce3d0201 310a 06082a8648ce3d030107"  # Attribute: id-ecPublicKey, SET { prime256v1 }
    "06082a8648ce3d040302"  # ecdsa-with-SHA256
)


async def certificate_request(request: Request) -> bytes:
    """The body of a request without its base64; PEM and DER are left as they are, what is none of them too.

    Raises `NotSo` with code `request-too-large` for one that is longer than any certificate request has to be.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > requests.LARGEST * 3 // 2:
            raise NotSo(
                f"certificate request is larger than {requests.LARGEST // 1024} KiB",
                mend="send one PKCS #10 request and nothing else",
                code="request-too-large",
            )
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        return bytes(body)


def authorization(request: Request) -> tuple[str | None, str | None]:
    """Device id and token of a request; None for what it does not say. Raises `NotSo` for what cannot be read."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        return None, None
    if scheme.lower() == "bearer":
        return None, rest.strip()
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            device_id, separator, token = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
            if separator:
                return device_id, token
    raise NotSo(
        "authorization of the request is not understood",
        mend="send HTTP basic ID:TOKEN, or a bearer token",
        code="token-missing",
    )


def client_certificate(request: Request) -> x509.Certificate | None:
    """The verified certificate of the connection, None when there is none. Raises `NotSo` when it cannot be read."""
    der: bytes | None = request.state.client_certificate
    if der is None:
        return None
    try:
        return whole(x509.load_der_x509_certificate(der))
    except MALFORMED as error:
        raise NotSo(
            f"client certificate cannot be read: {reason(error)}",
            mend="look at it with: sealmq cert show FILE",
            code="certificate-unreadable",
        ) from None


def needed_certificate(request: Request) -> x509.Certificate:
    """Like `client_certificate`, for what goes on with one alone; raises `NotSo` with code `certificate-missing`."""
    certificate = client_certificate(request)
    if certificate is None:
        raise NotSo(
            "renewal needs the certificate that is to be renewed, as the client certificate of the connection",
            mend="with curl: --cert cert.pem --key key.pem; without one, enrol with a token",
            code="certificate-missing",
        )
    return certificate


def peer_of(request: Request) -> str:
    """Who asks, `HOST:PORT`, as in the data plane's events."""
    if request.client is None:
        return ""
    host = f"[{request.client.host}]" if ":" in request.client.host else request.client.host
    return f"{host}:{request.client.port}"


def as_pkcs7(certificates: Iterable[x509.Certificate]) -> Response:
    """A `certs-only` message (RFC 8951, section 3.1), in one line of base64."""
    body = base64.b64encode(pkcs7.serialize_certificates(list(certificates), Encoding.DER))
    return Response(body, media_type="application/pkcs7-mime; smime-type=certs-only", headers=_BASE64)


def csr_attributes() -> Response:
    """What a request should be like (RFC 8951, section 3.2.2). No challengePassword is asked for."""
    return Response(base64.b64encode(_CSR_ATTRIBUTES), media_type="application/csrattrs", headers=_BASE64)


def pkcs7_of(issued: Issued) -> Response:
    """RFC 7030, 4.2.3: only the certificate itself; the CA is at `cacerts`."""
    return as_pkcs7([issued.certificate])


def pem_of(issued: Issued) -> Response:
    """The certificate and its issuing CA, PEM."""
    return Response(issued.chain_pem, media_type="application/x-pem-file")
