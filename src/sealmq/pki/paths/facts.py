"""One certificate taken apart once: extensions by kind, key, names for people; a malformed one says why.

It knows nothing of paths and judges nothing.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from sealmq.pki.malformed import MALFORMED, reason

if TYPE_CHECKING:
    from collections.abc import Mapping

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)


@dataclass(frozen=True, eq=False)
class Facts:
    """What stands in a certificate, `extensions` by dotted OID; where it cannot be read, less, and `fault` says why."""

    certificate: x509.Certificate
    subject: x509.Name
    issuer: x509.Name
    extensions: Mapping[str, x509.Extension[x509.ExtensionType]]
    key: object | None
    fault: str

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Facts:
        """Take a certificate apart; nothing is raised for a malformed one."""
        fault, key = "", None
        subject, issuer = x509.Name([]), x509.Name([])
        extensions: dict[str, x509.Extension[x509.ExtensionType]] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyca warns of what `steps` reports
            try:
                subject, issuer = certificate.subject, certificate.issuer
                extensions = {one.oid.dotted_string: one for one in certificate.extensions}
            except MALFORMED as error:
                fault = reason(error)
            try:
                key = certificate.public_key()
            except MALFORMED as error:
                fault = fault or reason(error)
        return cls(certificate, subject, issuer, extensions, key, fault)

    def find(self, kind: type[_Kind]) -> _Kind | None:
        """The extension of that kind, None when there is none."""
        found = self.extensions.get(kind.oid.dotted_string)
        return found.value if found is not None and isinstance(found.value, kind) else None

    def is_critical(self, kind: type[x509.ExtensionType]) -> bool:
        """Whether the certificate has the extension and marks it critical."""
        found = self.extensions.get(kind.oid.dotted_string)
        return found is not None and found.critical

    @property
    def is_self_issued(self) -> bool:
        """Subject and issuer are one name (RFC 5280, section 3.2); the key may be another one."""
        return self.subject == self.issuer

    @property
    def names(self) -> list[x509.GeneralName]:
        """The subject alternative names."""
        found = self.find(x509.SubjectAlternativeName)
        return list(found) if found is not None else []

    @property
    def common_names(self) -> list[str]:
        """The common names of the subject."""
        return [str(one.value) for one in self.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]

    @property
    def label(self) -> str:
        """What a person calls it: its subject, else its first alternative name."""
        return self.subject.rfc4514_string() or next(
            (str(name.value) for name in self.names), "a certificate without a name"
        )


class Link:
    """Whether one certificate signed another; `reason` is why that cannot be told."""

    def __init__(self, child: Facts, parent: Facts) -> None:
        """Check the signature on `child` with the key of `parent`; the names must fit as well."""
        self.is_good, self.reason = False, ""
        try:
            child.certificate.verify_directly_issued_by(parent.certificate)
            self.is_good = True
        except InvalidSignature:
            pass
        except MALFORMED as error:
            self.reason = reason(error)


def label_of(name: x509.Name) -> str:
    """A name for people, never empty."""
    return name.rfc4514_string() or "an empty name"
