"""What can be asked about the CA of a data folder.

It knows nothing of devices. Conventions of arguments and results are those of the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.pki import signing
from sealmq.pki.fingerprints import certificate_sha256, spki_sha256
from sealmq.pki.operations.results import Result, iso

if TYPE_CHECKING:
    from datetime import datetime

    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority
    from sealmq.pki.registry import Registry


def ca_show(
    folder: DataFolder,
    authority: Authority,
    registry: Registry,  # noqa: ARG001
    *,
    now: datetime | None = None,
) -> Result:
    """The CA: `fleet` and `authorities`, the root first.

    Each has `role` (`root`, `devices`, `servers`), `subject`, `issuer`, `serial`, `not_before`, `not_after`,
    `seconds_left`, `sha256` of the certificate, `spki_sha256` of its public key, and `file`.
    """
    now = now or signing.utc_now()
    issuers = {"root": authority.root, "devices": authority.device_issuer, "servers": authority.server_issuer}
    return {
        "fleet": authority.fleet,
        "authorities": [
            {
                "role": role,
                "subject": issuer.certificate.subject.rfc4514_string(),
                "issuer": issuer.certificate.issuer.rfc4514_string(),
                "serial": f"{issuer.certificate.serial_number:x}",
                "not_before": iso(issuer.certificate.not_valid_before_utc),
                "not_after": iso(issuer.certificate.not_valid_after_utc),
                "seconds_left": int((issuer.certificate.not_valid_after_utc - now).total_seconds()),
                "sha256": certificate_sha256(issuer.certificate),
                "spki_sha256": spki_sha256(issuer.certificate),
                "file": str(folder.ca_dir / f"{role}.pem"),
            }
            for role, issuer in issuers.items()
        ],
    }


def ca_export(
    folder: DataFolder,  # noqa: ARG001
    authority: Authority,
    registry: Registry,  # noqa: ARG001
) -> Result:
    """What devices trust for the broker: `pem` (the root, text) and `sha256` of the certificate."""
    return {
        "pem": authority.server_ca_pem().decode("ascii"),
        "sha256": certificate_sha256(authority.root.certificate),
    }
