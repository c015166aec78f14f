"""What revocation leaves behind: the deny list for the data plane and the CRL for third parties.

It knows nothing of sessions; whoever owns them closes them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from sealmq.errors import SealmqError, UsageError
from sealmq.pki import certfiles
from sealmq.pki.fingerprints import key_id
from sealmq.pki.malformed import MALFORMED
from sealmq.pki.registry import DeviceStatus
from sealmq.secretfiles import write_public

if TYPE_CHECKING:
    from pathlib import Path

    from sealmq.datafolder import DataFolder
    from sealmq.pki.authority import Authority
    from sealmq.pki.registry import Registry
    from sealmq.pki.signing import Issuer

CRL_LIFETIME = timedelta(days=1)
CRL_REFRESH = timedelta(hours=12)
"""A CRL younger than this is left as it is."""

REASONS: dict[str, x509.ReasonFlags] = {
    "unspecified": x509.ReasonFlags.unspecified,
    "key-compromise": x509.ReasonFlags.key_compromise,
    "affiliation-changed": x509.ReasonFlags.affiliation_changed,
    "superseded": x509.ReasonFlags.superseded,
    "cessation-of-operation": x509.ReasonFlags.cessation_of_operation,
    "privilege-withdrawn": x509.ReasonFlags.privilege_withdrawn,
}
"""By the names that commands take (RFC 5280, 5.3.1). The data plane treats all of them alike; they stand in the CRL."""

Denylist = dict[str, list[str]]


def check_reason(text: str) -> str:
    """`text` when it is a reason. Raises `UsageError` with code `reason-unknown`."""
    if text in REASONS:
        return text
    raise UsageError(
        f"reason {text[:40]!r} does not exist", mend=f"use one of: {', '.join(REASONS)}", code="reason-unknown"
    )


def denylist(registry: Registry, *, now: datetime | None = None) -> Denylist:
    """Who is refused at the handshake: `devices` (ids) and `certificates` (SHA-256 of the DER form, lower-case hex).

    `devices` are those revoked or retired. A revoked certificate that has expired, when `now` says so, is left out.
    """
    gone = registry.ids(DeviceStatus.REVOKED, DeviceStatus.RETIRED)
    revoked = [one.sha256 for one in registry.revoked_certificates() if now is None or now < one.not_after]
    return {"devices": gone, "certificates": revoked}


def crl(issuer: Issuer, registry: Registry, *, now: datetime) -> x509.CertificateRevocationList:
    """The revoked certificates of one issuing CA that have not expired, good for a day (RFC 5280, section 5).

    Its number is the time it was made, in milliseconds: it grows without anything to remember.
    """
    reasons = registry.reasons()
    own = key_id(issuer.key.public_key())
    entries = []
    for record in registry.revoked_certificates():
        if record.issuer != own or record.not_after <= now or record.revoked_at is None:
            continue
        entry = (
            x509.RevokedCertificateBuilder().serial_number(int(record.serial, 16)).revocation_date(record.revoked_at)
        )
        reason = REASONS.get(reasons.get(record.device_id, ""), x509.ReasonFlags.unspecified)
        if reason is not x509.ReasonFlags.unspecified:  # RFC 5280, 5.3.1: left out rather than said
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        entries.append(entry.build())
    # all of them at once: add_revoked_certificate copies the list each time, twelve seconds for 60,000
    builder = x509.CertificateRevocationListBuilder(
        issuer.certificate.subject, now, now + CRL_LIFETIME, revoked_certificates=entries
    )
    builder = builder.add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return builder.add_extension(identifier, critical=False).sign(issuer.key, hashes.SHA256())


def crl_path(folder: DataFolder) -> Path:
    """Where the CRLs of the issuing CAs for devices lie."""
    return folder.ca_dir / "devices.crl.pem"


def write_crl(folder: DataFolder, authority: Authority, registry: Registry, *, now: datetime) -> Path:
    """Write fresh CRLs, whole or not at all; where they are. Raises `Environment` when they cannot be written.

    One follows the other for each issuing CA whose devices are accepted, that of the one that signs now first.
    """
    lists = [crl(member.issuer, registry, now=now) for member in authority.device_issuers()]
    write_public(crl_path(folder), b"".join(one.public_bytes(serialization.Encoding.PEM) for one in lists))
    return crl_path(folder)


def crl_is_due(folder: DataFolder, authority: Authority, registry: Registry, *, now: datetime) -> bool:
    """Whether new CRLs are to be written: they are missing, unreadable or old, or lack a CA or somebody who is revoked.

    They lack somebody when the disk was full at the revocation, or the process ended between the registry and the list;
    a CA that has followed another, until it has a list of its own.
    """
    try:
        lists = certfiles.revocation_lists(crl_path(folder))
        if not all(one.last_update_utc <= now < one.last_update_utc + CRL_REFRESH for one in lists):
            return True
        with_list = {_issuer_of(one) for one in lists}
        listed = {(_issuer_of(one), f"{entry.serial_number:x}") for one in lists for entry in one}
    except (SealmqError, x509.ExtensionNotFound, *MALFORMED):
        return True
    issuers = {key_id(member.issuer.key.public_key()) for member in authority.device_issuers()}
    return with_list != issuers or any(
        record.issuer in issuers and record.not_after > now and (record.issuer, record.serial) not in listed
        for record in registry.revoked_certificates()
    )


def refresh_crl(folder: DataFolder, authority: Authority, registry: Registry, *, now: datetime) -> None:
    """Write new CRLs when they are due. Raises `Environment` when they cannot be written."""
    if crl_is_due(folder, authority, registry, now=now):
        write_crl(folder, authority, registry, now=now)


def _issuer_of(found: x509.CertificateRevocationList) -> str:
    identifier = found.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    return (identifier or b"").hex()
