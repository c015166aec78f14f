"""What can be asked about the CA of a data folder.

It knows nothing of devices. Conventions of arguments and results are those of the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.pki import signing
from sealmq.pki.authority import Kind, State
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
    """The CA: `fleet` and `authorities`, roots first, and of each role the one that signs first; not the retired ones.

    Each has `role` (`root`, `devices`, `servers`), `number`, `state` (see `sealmq.pki.authority.State`), `subject`,
    `issuer`, `serial`, `not_before`, `not_after`, `seconds_left`, `sha256` of the certificate, `spki_sha256` of its
    public key, and `file`.
    """
    now = now or signing.utc_now()
    order = list(Kind)
    members = sorted(
        authority.members, key=lambda one: (order.index(one.entry.kind), one.entry.state is not State.SIGNING)
    )
    return {
        "fleet": authority.fleet,
        "authorities": [
            {
                "role": str(member.entry.kind),
                "number": member.entry.number,
                "state": str(member.entry.state),
                "subject": member.certificate.subject.rfc4514_string(),
                "issuer": member.certificate.issuer.rfc4514_string(),
                "serial": f"{member.certificate.serial_number:x}",
                "not_before": iso(member.certificate.not_valid_before_utc),
                "not_after": iso(member.certificate.not_valid_after_utc),
                "seconds_left": int((member.certificate.not_valid_after_utc - now).total_seconds()),
                "sha256": certificate_sha256(member.certificate),
                "spki_sha256": spki_sha256(member.certificate),
                "file": str(folder.ca_dir / f"{member.entry.stem}.pem"),
            }
            for member in members
        ],
    }


def ca_export(
    folder: DataFolder,  # noqa: ARG001
    authority: Authority,
    registry: Registry,  # noqa: ARG001
) -> Result:
    """What devices trust for the broker: `pem` (the roots), `version` of that bundle, `sha256` of the signing root."""
    pem, version = authority.bundle()
    return {
        "pem": pem.decode("ascii"),
        "version": version,
        "sha256": certificate_sha256(authority.root.certificate),
    }
