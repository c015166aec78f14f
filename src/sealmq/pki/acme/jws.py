"""Requests signed with the key of an account: JSON Web Signatures with ES256 (RFC 7515, RFC 7518, section 3.4).

It knows nothing of the network, and of what a request asks for.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

if TYPE_CHECKING:
    from collections.abc import Mapping

_COORDINATE_BYTES = 32  # of P-256


def encoded(data: bytes) -> str:
    """Base64 for URLs without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """The public half of a P-256 key as a JSON Web Key; its members in the order that a thumbprint wants."""
    point = key.public_key().public_numbers()
    x, y = (encoded(number.to_bytes(_COORDINATE_BYTES)) for number in (point.x, point.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def key_authorization(token: str, key: ec.EllipticCurvePrivateKey) -> str:
    """What a challenge wants to see (RFC 8555, section 8.1): the token and the key's thumbprint (RFC 7638)."""
    canonical = json.dumps(public_jwk(key), separators=(",", ":"), sort_keys=True)
    return f"{token}.{encoded(hashlib.sha256(canonical.encode()).digest())}"


def signed(
    payload: Mapping[str, object] | None, *, key: ec.EllipticCurvePrivateKey, url: str, nonce: str, account: str | None
) -> bytes:
    """The body of a request to `url` (RFC 8555, section 6.2); `payload` None is a POST-as-GET.

    `account` is the URL of the account; None sends the key itself, which only the request for an account does.
    """
    identity: dict[str, object] = {"jwk": public_jwk(key)} if account is None else {"kid": account}
    protected = encoded(json.dumps({"alg": "ES256", "nonce": nonce, "url": url, **identity}).encode())
    body = "" if payload is None else encoded(json.dumps(payload).encode())
    r, s = decode_dss_signature(key.sign(f"{protected}.{body}".encode("ascii"), ec.ECDSA(hashes.SHA256())))
    signature = encoded(r.to_bytes(_COORDINATE_BYTES) + s.to_bytes(_COORDINATE_BYTES))
    return json.dumps({"protected": protected, "payload": body, "signature": signature}).encode()
