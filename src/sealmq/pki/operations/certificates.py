"""What a built-in CA certifies on a request that was made elsewhere: a key for a device, or for a server.

It knows nothing of sockets, of locks or of how results are shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from sealmq.errors import UsageError
from sealmq.pki import enrolment, requests, signing
from sealmq.pki.certify import Wanted, certify, signer
from sealmq.pki.fingerprints import certificate_sha256
from sealmq.pki.operations.results import iso
from sealmq.pki.profiles import Usage
from sealmq.pki.x509names import parse_alternative_name

if TYPE_CHECKING:
    from datetime import datetime

    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority
    from sealmq.pki.operations.results import Result
    from sealmq.pki.registry import Registry


def cert_sign_device(
    folder: DataFolder,  # noqa: ARG001 - every operation has the same first three
    authority: Authority,
    registry: Registry,
    *,
    request: str,
    id: str,  # noqa: A002 - the name in the protocol of `control.sock`
    now: datetime | None = None,
) -> Result:
    """A certificate for a device of the registry and the key in `request` (PEM); id, names and lifetime are its own.

    The result has `pem` (leaf and issuing CA), `subject`, `serial`, `sha256`, `not_after`. Raises `NotSo` with code
    `device-unknown`, `device-revoked`, `device-retired` and those of `requests.accept`.
    """
    now = now or signing.utc_now()
    accepted = requests.accept(request.encode())
    with registry.transaction():
        device = enrolment.alive(registry.device(id))
        issued = enrolment.issue(authority, registry, device, accepted.public_key, now=now)
    return signed(issued.chain_pem)


def cert_sign_server(
    folder: DataFolder,  # noqa: ARG001
    authority: Authority,
    registry: Registry,  # noqa: ARG001
    *,
    request: str,
    names: list[str],
    common_name: str | None,
    days: int,
    now: datetime | None = None,
) -> Result:
    """A certificate for a server that is reached under `names` (`DNS:…`, `IP:…`) and the key in `request` (PEM).

    The result is that of `cert_sign_device`. Raises what `certify` does, `UsageError` for names that servers have not.
    """
    found = tuple(parse_alternative_name(name) for name in names)
    if wrong := [name for name in found if not isinstance(name, x509.DNSName | x509.IPAddress)]:
        raise UsageError(
            f"the CA for servers signs host names and addresses, not {wrong[0].value}",
            mend="give DNS: and IP: names; a device is certified with --device ID",
            code="name-invalid",
        )
    by = signer(authority.server_issuer, *authority.bridges())
    wanted = Wanted(Usage.SERVER, found, common_name, days)
    return signed(certify(request.encode(), by=by, wanted=wanted, now=now or signing.utc_now()))


def signed(chain_pem: bytes) -> Result:
    """What is told of a certificate that was just made."""
    leaf = x509.load_pem_x509_certificate(chain_pem)
    return {
        "pem": chain_pem.decode("ascii"),
        "subject": leaf.subject.rfc4514_string(),
        "serial": f"{leaf.serial_number:x}",
        "sha256": certificate_sha256(leaf),
        "not_after": iso(leaf.not_valid_after_utc),
    }
