"""How a device gets a certificate for a key of its own: by token, by the certificate it has, or by a factory's.

It knows nothing of HTTP or of EST: who asks comes as arguments, a refusal is an error with a code.

Of a certificate request the CA takes the public key and the proof of possession and nothing else; id, profile and
names come from the registry. A request that names somebody else is refused, not corrected. Refusals are `NotSo`:

| code | what is wrong |
|---|---|
| `token-unknown`, `token-used`, `token-expired`, `token-other-device` | the token |
| `certificate-unknown`, `certificate-untrusted`, `certificate-revoked` | the certificate |
| `certificate-expired`, `certificate-superseded` | its dates, or that the device has shown a later one |
| `device-revoked`, `device-retired` | the device |
| `renewals-too-many` | the device, which had `RENEWALS` within a day |
| `approval-denied`, `approval-queue-full` | what an operator said, or who all is waiting |
| `request-names` and those of `requests.accept` | the request |
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from sealmq.errors import NotSo, UsageError
from sealmq.pki import requests, signing
from sealmq.pki.fingerprints import certificate_sha256, issuer_key_id
from sealmq.pki.malformed import MALFORMED
from sealmq.pki.names import check_device_id, device_uri
from sealmq.pki.profiles import device_profile
from sealmq.pki.registry import (
    Approval,
    ApprovalState,
    CertificateRecord,
    CertificateStatus,
    Device,
    DeviceStatus,
    Registry,
)
from sealmq.pki.tokens import token_hash

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from sealmq.pki.authority import Authority

GRACE = timedelta(days=90)
"""How long after its end a certificate that was not revoked may still ask for the next one, unless configured."""

_MADE_UP = re.compile(r"factory-[0-9a-f]{16}", re.ASCII)

RENEWALS = 24
"""Certificates that one device gets in a day; more are refused, so that a device gone bad cannot fill the disk.

The shortest profile needs two, and an agent whose renewals fail again and again asks ten times.
"""

QUEUE = 1000
"""Devices that may wait for an approval; more are refused, so that a stolen factory key cannot fill the disk."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was made and recorded: `chain_pem` is the leaf, then its issuing CA."""

    device_id: str
    certificate: x509.Certificate = field(repr=False)
    chain_pem: bytes = field(repr=False)


def by_token(
    authority: Authority,
    registry: Registry,
    *,
    token: str,
    request: bytes,
    now: datetime,
    device_id: str | None = None,
) -> Issued:
    """A certificate for the device that a one-time token was made for; the token is used up by it.

    `device_id` is who the sender says to be, None when the token alone speaks. A request that is refused does not use
    the token up.
    """
    found = registry.tokens.find(token_hash(token))
    if found is None:
        raise NotSo("enrolment token is not known", mend=_new_token("ID"), code="token-unknown")
    if device_id is not None and device_id != found.device_id:
        raise NotSo(
            "enrolment token was made for another device",
            mend="give the id that stands beside the token in its URI",
            code="token-other-device",
        )
    if found.used_at is not None:
        raise _used(found.device_id)
    if now >= found.expires_at:
        raise NotSo(
            f"enrolment token of {found.device_id} expired at {found.expires_at:%Y-%m-%d %H:%M} UTC",
            mend=_new_token(found.device_id),
            code="token-expired",
        )
    key = _accepted(request, authority.fleet, found.device_id)
    with registry.transaction():
        device = alive(registry.device(found.device_id))
        if not registry.tokens.use(found.hash, now=now):  # somebody else was faster
            raise _used(device.id)
        return issue(authority, registry, device, key, now=now)


def by_certificate(
    authority: Authority,
    registry: Registry,
    *,
    sha256: str,
    request: bytes,
    now: datetime,
    grace: timedelta = GRACE,
) -> Issued:
    """The next certificate for the device whose present one, with that `sha256`, was proven in a handshake.

    Whether it has expired is judged here: for `grace` after its end it may ask for the next one and nothing else.
    """
    record, _ = holder(authority, registry, sha256=sha256, now=now, grace=grace)
    key = _accepted(request, authority.fleet, record.device_id)
    with registry.transaction():
        # once more: a revocation may have come in between
        _, device = holder(authority, registry, sha256=sha256, now=now, grace=grace)
        _check_pace(device, now)
        return issue(authority, registry, device, key, now=now)


def holder(
    authority: Authority, registry: Registry, *, sha256: str, now: datetime, grace: timedelta = GRACE
) -> tuple[CertificateRecord, Device]:
    """The certificate with that `sha256` and its device, when it may be used to ask for the next one.

    A handshake is not enough: its connection, or a ticket of it, may be older than the revocation of the device, or
    than the end of the trust in its CA.
    """
    record = registry.certificate(sha256)
    if record is None:
        raise NotSo(
            "client certificate was not issued by this CA",
            mend="enrol with a token: `sealmq device add ID --token`",
            code="certificate-unknown",
        )
    device = alive(registry.device(record.device_id))
    if record.status == CertificateStatus.REVOKED:
        raise NotSo(
            f"client certificate of {device.id} is revoked",
            mend=_new_token(device.id),
            code="certificate-revoked",
        )
    if record.issuer not in {member.key_id for member in authority.device_issuers()}:
        raise NotSo(
            f"client certificate of {device.id} is of a CA that is trusted no more",
            mend=f"renew with a later one; if there is none: {_new_token(device.id)}",
            code="certificate-untrusted",
        )
    if now >= record.not_after + grace:
        raise NotSo(
            f"client certificate of {device.id} expired at {record.not_after:%Y-%m-%d %H:%M} UTC,"
            f" longer ago than the {grace.days} days of grace",
            mend=_new_token(device.id),
            code="certificate-expired",
        )
    if now >= record.not_after and record.status == CertificateStatus.SUPERSEDED:
        raise NotSo(
            f"client certificate of {device.id} expired, and the device has shown a later one",
            mend=f"renew with the later one; if it is lost: {_new_token(device.id)}",
            code="certificate-superseded",
        )
    return record, device


def by_factory_certificate(
    authority: Authority,
    registry: Registry,
    *,
    certificate: x509.Certificate,
    factories: Sequence[x509.Certificate],
    request: bytes,
    peer: str,
    now: datetime,
) -> Issued | Approval:
    """A certificate for a device that came with a certificate of a factory, or its place in the approval queue.

    One of `factories`, CA certificates, must have signed `certificate` itself; that its key is the sender's was the
    handshake's to check. An approval is good for one certificate. `peer` is the address that asks, for the operator.
    """
    _check_factory(certificate, factories, now)
    key = requests.accept(request).public_key
    with registry.transaction():  # from the look at the approval until it is used up: two at once share none
        asked = registry.approvals.ask(_asked(registry, certificate, peer, now), at_most=QUEUE)
        if asked is None:
            raise NotSo(
                f"approval queue is full: {QUEUE} devices are waiting",
                mend="look at them with `sealmq device pending`",
                code="approval-queue-full",
            )
        if asked.state == ApprovalState.DENIED:
            raise NotSo(
                f"enrolment of {asked.device_id} was denied by an operator",
                mend=f"if that was a mistake: `sealmq device approve {asked.device_id}`",
                code="approval-denied",
            )
        if asked.state == ApprovalState.WAITING:
            return asked
        device = alive(registry.device(asked.device_id))
        issued = issue(authority, registry, device, key, now=now)
        registry.approvals.forget(device.id)
    return issued


def issue(
    authority: Authority, registry: Registry, device: Device, key: CertificatePublicKeyTypes, *, now: datetime
) -> Issued:
    """Sign `key` for a device of the registry by its profile, and record it; a pending device is active from here on.

    Raises `ConfigError` with code `clock-wrong` when `now` is before the CA was made, `issuer-expired` when the issuing
    CA has expired. To be called inside a transaction by whoever does more than this.
    """
    issuer = authority.device_issuer
    leaf = signing.sign_leaf(
        device_profile(device.profile),
        issuer=issuer,
        public_key=key,
        common_name=device.id,
        names=[x509.UniformResourceIdentifier(device_uri(authority.fleet, device.id))],
        now=now,
    )
    with registry.transaction():
        if device.status == DeviceStatus.PENDING:
            registry.put_status(device.id, DeviceStatus.ACTIVE, now=now)
        registry.record_certificate(certificate_record(leaf, device_id=device.id, now=now))
    return Issued(device.id, leaf, signing.certificate_pem(leaf, issuer.certificate))


def alive(device: Device) -> Device:
    """`device` when it may have a certificate. Raises `NotSo` with code `device-revoked` or `device-retired`."""
    if device.status == DeviceStatus.REVOKED:
        raise NotSo(
            f"device {device.id} is revoked",
            mend="an operator has to retire it and to add it again",
            code="device-revoked",
        )
    if device.status == DeviceStatus.RETIRED:
        raise NotSo(f"device {device.id} is retired", mend="an operator has to add it again", code="device-retired")
    return device


def _check_pace(device: Device, now: datetime) -> None:
    if sum(now - one.created_at < timedelta(days=1) for one in device.certificates) >= RENEWALS:
        raise NotSo(
            f"device {device.id} got {RENEWALS} certificates within a day",
            mend="find out why it renews so often, or whether its key is somebody else's too",
            code="renewals-too-many",
        )


def certificate_record(certificate: x509.Certificate, *, device_id: str, now: datetime) -> CertificateRecord:
    """What the registry remembers of a certificate that this CA issued."""
    return CertificateRecord(
        serial=f"{certificate.serial_number:x}",
        device_id=device_id,
        issuer=issuer_key_id(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sha256=certificate_sha256(certificate),
        created_at=now,
    )


def _new_token(device_id: str) -> str:
    return f"make a new token: `sealmq device token {device_id}`"


def _used(device_id: str) -> NotSo:
    return NotSo(
        f"enrolment token of {device_id} was used already",
        mend=f"if that was not this device, revoke it; {_new_token(device_id)}",
        code="token-used",
    )


def _accepted(request: bytes, fleet: str, device_id: str) -> CertificatePublicKeyTypes:
    """The proven key of a request that names nobody but `device_id`."""
    accepted = requests.accept(request)
    common_names = [str(name.value) for name in accepted.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    own = x509.UniformResourceIdentifier(device_uri(fleet, device_id))
    foreign = [name for name in common_names if name != device_id]
    foreign += [_shown(name) for name in accepted.names if name != own]
    if foreign:
        raise NotSo(
            f"certificate request of {device_id} asks for the name {foreign[0][:80]!r}",
            mend=f"make it with the subject CN={device_id} or an empty one, and without other names",
            code="request-names",
        )
    return accepted.public_key


def _shown(name: x509.GeneralName) -> str:
    return str(getattr(name, "value", name))


def _check_factory(certificate: x509.Certificate, factories: Sequence[x509.Certificate], now: datetime) -> None:
    name = certificate.subject.rfc4514_string()
    if not any(_has_signed(factory, certificate) for factory in factories):
        raise NotSo(
            f"client certificate {name} is of no CA whose devices may enrol",
            mend="enrol with a token; or name its CA in enrolment.factory_ca",
            code="certificate-unknown",
        )
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise NotSo(
            f"factory certificate {name} is not valid at this time",
            mend="check its dates and the clock of the broker",
            code="certificate-expired",
        )


def _has_signed(factory: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(factory)
    except (InvalidSignature, *MALFORMED):
        return False
    return True


def _asked(registry: Registry, factory: x509.Certificate, peer: str, now: datetime) -> Approval:
    sha256 = certificate_sha256(factory)
    other = f"factory-{sha256[:16]}"  # never another's: whose name is of this form is called by its own digest
    common_names = factory.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    try:
        wanted = check_device_id(str(common_names[0].value)) if common_names else other
    except UsageError:
        wanted = other
    if _MADE_UP.fullmatch(wanted):
        wanted = other
    taken = registry.approvals.of_device(wanted)
    return Approval(
        sha256=sha256,
        device_id=wanted if taken is None or taken.sha256 == sha256 else other,
        subject=factory.subject.rfc4514_string(),
        issuer=factory.issuer.rfc4514_string(),
        peer=peer,
        state=ApprovalState.WAITING,
        requested_at=now,
    )
