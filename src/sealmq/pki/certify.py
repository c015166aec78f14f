"""A certificate request turned into a certificate, by a CA that a user brings or by one of the built-in ones.

It knows nothing of the registry or of who asked. The request gives the public key and nothing else: names, purpose
and lifetime are what the caller says.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sealmq.errors import ConfigError, NotSo, UsageError
from sealmq.pki import certfiles, keys, requests, signing
from sealmq.pki.paths import Question, verify
from sealmq.pki.profiles import LeafProfile, Usage
from sealmq.pki.signing import Issuer

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

LONGEST_DAYS = 398
"""The most that public CAs were allowed until 2026; a stolen key stays useful for as long."""

_BACKDATE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Signer:
    """A CA to sign with: `issuer`, and `chain`, what stands behind a leaf of it in a file, its own certificate first.

    A root is left out of `chain`: who trusts it has it.
    """

    issuer: Issuer
    chain: tuple[x509.Certificate, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be certified: a `usage`, `names`, a common name or none, for so many `days`."""

    usage: Usage
    names: tuple[x509.GeneralName, ...]
    common_name: str | None = None
    days: int = 30

    def profile(self) -> LeafProfile:
        """As a row for `signing`. Raises `UsageError` when `days` make no sense."""
        if not 1 <= self.days <= LONGEST_DAYS:
            raise UsageError(
                f"a certificate for {self.days} days is not made here",
                mend=f"give 1 to {LONGEST_DAYS} days, and renew it automatically",
            )
        return LeafProfile("by hand", timedelta(days=self.days), _BACKDATE, self.usage)


def open_signer(certificate: Path, key: Path, *, passphrase: bytes | None = None) -> Signer:
    """The CA in two files: its certificate, those above it behind it, and its key.

    Raises `ConfigError` with code `certificate-invalid`, `key-mismatch` and those of `keys.load`.
    """
    chain = certfiles.certificates(certificate)
    private = keys.load(certfiles.read(key), path=key, passphrase=passphrase)
    if private.public_key() != chain[0].public_key():
        raise ConfigError(
            f"CA key {key} does not belong to CA certificate {certificate}",
            mend="give the key of the first certificate in that file",
            code="key-mismatch",
        )
    return signer(Issuer(chain[0], private), *chain[1:])


def signer(issuer: Issuer, *above: x509.Certificate) -> Signer:
    """A CA that is in memory already, with the certificates above it."""
    chain = (issuer.certificate, *above)
    return Signer(issuer, tuple(one for one in chain if one.subject != one.issuer))


def certify(request: bytes, *, by: Signer, wanted: Wanted, now: datetime) -> bytes:
    """The certificate for the key in `request`, PEM: the leaf, then the chain of its CA.

    It is verified before it is handed out, as a peer that trusts the CA will. Raises `UsageError` for days or names
    that make no sense, `NotSo` with the codes of `requests.accept`, or with `would-not-verify` when the CA may not
    issue this, and `ConfigError` with code `issuer-expired`.
    """
    profile = wanted.profile()
    if not wanted.names:
        raise UsageError(
            "certificate would have no name; a common name alone is none",
            mend="say which names it is for: --san DNS:broker.example, --san URI:…; or --names-of-request",
            code="names-missing",
        )
    accepted = requests.accept(request)
    leaf = signing.sign_leaf(
        profile,
        issuer=by.issuer,
        public_key=accepted.public_key,
        common_name=wanted.common_name,
        names=list(wanted.names),
        now=now,
    )
    _check(leaf, by, Question(now, (by.issuer.certificate,), wanted.usage))
    return signing.certificate_pem(leaf, *by.chain)


def _check(leaf: x509.Certificate, by: Signer, question: Question) -> None:
    report = verify(leaf, replace(question, intermediates=by.chain))
    if report.is_valid:
        return
    step = report.best.failed[0]
    whose = "certificate" if step.position == 0 else f"CA {by.issuer.certificate.subject.rfc4514_string()}"
    raise NotSo(
        f"{whose} would not verify: {step.what}",
        mend=step.mend,
        code="would-not-verify",
    )
