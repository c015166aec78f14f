"""The checks of one certificate in its path, each a function that is shown the path and a position.

It knows nothing of how paths are found, of names asked for, or of revocation lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealmq.pki.malformed import MALFORMED
from sealmq.pki.paths.facts import Facts, Link, label_of
from sealmq.pki.paths.model import Question, Step, Verdict
from sealmq.pki.profiles import Usage

if TYPE_CHECKING:
    from sealmq.pki.paths.build import Candidate

SMALLEST_RSA = 2048  # bits (RFC 9325, section 4.5)
SMALLEST_CURVE = 256  # bits
LONGEST_SERIAL = 20  # octets (RFC 5280, section 4.1.2.2)

_WEAK_HASHES = {"md5": "MD5", "sha1": "SHA-1"}
_USAGES = {Usage.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH, Usage.SERVER: ExtendedKeyUsageOID.SERVER_AUTH}
_SIDES = {Usage.CLIENT: "clients", Usage.SERVER: "servers"}
_PROCESSED = {
    x509.BasicConstraints.oid,
    x509.KeyUsage.oid,
    x509.ExtendedKeyUsage.oid,
    x509.SubjectAlternativeName.oid,
    x509.NameConstraints.oid,
    x509.SubjectKeyIdentifier.oid,
    x509.AuthorityKeyIdentifier.oid,
    x509.CertificatePolicies.oid,  # any policy will do here, so there is nothing to enforce
}


@dataclass(frozen=True)
class Place:
    """A position in a path; `below` are the certificates from the leaf to the one before, `link` its issuer's mark."""

    candidate: Candidate
    position: int

    @property
    def facts(self) -> Facts:
        return self.candidate.path[self.position]

    @property
    def is_leaf(self) -> bool:
        return self.position == 0

    @property
    def is_anchor(self) -> bool:
        return self.candidate.anchored and self.position == len(self.candidate.path) - 1

    @property
    def link(self) -> Link | None:
        links = self.candidate.links
        return links[self.position] if self.position < len(links) else None

    def passed(self, check: str, what: str) -> Step:
        return Step(check, self.position, Verdict.PASSED, what)

    def noted(self, check: str, what: str) -> Step:
        return Step(check, self.position, Verdict.NOTED, what)

    def skipped(self, check: str, what: str) -> Step:
        return Step(check, self.position, Verdict.SKIPPED, what)

    def failed(self, check: str, what: str, *, fault: str, mend: str) -> Step:
        return Step(check, self.position, Verdict.FAILED, what, fault, mend)


def form(place: Place, question: Question) -> Step:
    """It can be read, is of version 3, and its serial number is one (RFC 5280, section 4.1)."""
    del question
    facts, check = place.facts, "form"
    if facts.fault:
        mend = "issue it again with a tool that keeps to RFC 5280"
        return place.failed(check, f"it cannot be read whole: {facts.fault}", fault="malformed", mend=mend)
    serial = facts.certificate.serial_number
    if serial <= 0 or serial.bit_length() > LONGEST_SERIAL * 8:
        return place.noted(
            check, f"its serial number ({serial:x}) is none that RFC 5280 allows: strict parsers refuse it"
        )
    return place.passed(check, f"X.509 {facts.certificate.version.name}, serial {serial:x}")


def dates(place: Place, question: Question) -> Step:
    """The time asked about lies in its validity (section 6.1.3 (a)(2)); anchors are held to it as well."""
    begin, end = place.facts.certificate.not_valid_before_utc, place.facts.certificate.not_valid_after_utc
    check, span = "dates", f"{_moment(begin)} to {_moment(end)}"
    owner = "get the present CA certificate" if place.is_anchor else "renew it"
    if question.at > end:
        mend = f"{owner}; if the date is wrong, look at the clock"
        return place.failed(check, f"it expired on {_moment(end)}", fault="certificate-expired", mend=mend)
    if question.at < begin:
        mend = "look at the clocks of this machine and of the CA, or wait"
        return place.failed(
            check, f"it is not valid before {_moment(begin)}", fault="certificate-not-yet-valid", mend=mend
        )
    return place.passed(check, span)


def key(place: Place, question: Question) -> Step:
    """The key is of a kind and size that TLS uses (RFC 9325, section 4.5)."""
    del question
    found, check = place.facts.key, "key"
    mend = "make a new key, P-256 for instance, and have it certified"
    if isinstance(found, rsa.RSAPublicKey):
        if found.key_size < SMALLEST_RSA:
            return place.failed(check, f"RSA key of {found.key_size} bits", fault="weak-key", mend=mend)
        return place.passed(check, f"RSA {found.key_size}")
    if isinstance(found, ec.EllipticCurvePublicKey):
        if found.curve.key_size < SMALLEST_CURVE:
            return place.failed(check, f"key on the curve {found.curve.name}", fault="weak-key", mend=mend)
        return place.passed(check, f"EC {found.curve.name}")
    if isinstance(found, dsa.DSAPublicKey):
        return place.failed(check, "DSA key, which TLS no longer knows", fault="weak-key", mend=mend)
    if found is None:
        return place.skipped(check, "it cannot be read")
    return place.passed(check, type(found).__name__.strip("_").removesuffix("PublicKey"))


def signature(place: Place, question: Question) -> Step:
    """Its issuer's key made its signature (section 6.1.3 (a)(1)), with a hash that still holds."""
    del question
    check, link = "signature", place.link
    if place.is_anchor:
        return place.skipped(check, "it is trusted as it is")
    if link is None:
        return place.skipped(check, "its issuer is not there to check it with")
    if weak := _weak_hash(place.facts.certificate):
        mend = "have it issued again with SHA-256"
        return place.failed(check, f"it is signed with {weak}, which can be forged", fault="weak-signature", mend=mend)
    if not link.is_good:
        mend = "have it issued again"
        return place.failed(check, f"it cannot be checked: {link.reason}", fault="malformed", mend=mend)
    return place.passed(check, f"signed by {label_of(place.facts.issuer)}")


def identifiers(place: Place, question: Question) -> Step | None:
    """Its authority key identifier is its issuer's subject key identifier (section 4.2.1.1).

    For RFC 5280 a hint for finding paths, no more; but OpenSSL and GnuTLS take such an issuer for another CA.
    """
    del question
    if place.link is None:
        return None
    authority = place.facts.find(x509.AuthorityKeyIdentifier)
    issuer = place.candidate.path[place.position + 1].find(x509.SubjectKeyIdentifier)
    wanted = authority.key_identifier if authority is not None else None
    if wanted is None or issuer is None or wanted == issuer.digest:
        return None
    return place.failed(
        "identifiers",
        f"it names the key {wanted.hex()} as its issuer's, and the issuer calls its key {issuer.digest.hex()}",
        fault="wrong-key-identifier",
        mend="have it issued with the subject key identifier of its CA as authorityKeyIdentifier",
    )


def basic_constraints(place: Place, question: Question) -> Step:
    """An issuer says that it is a CA, a leaf does not (section 4.2.1.9)."""
    del question
    check, found = "basic constraints", place.facts.find(x509.BasicConstraints)
    if place.is_leaf:
        if found is not None and found.ca:
            mend = "have a certificate with CA:FALSE issued by this CA, and keep the key of the CA elsewhere"
            return place.failed(
                check, "it is a CA certificate: whoever holds its key can issue others", fault="ca-as-leaf", mend=mend
            )
        return place.passed(check, "no CA")
    if found is None or not found.ca:
        what = "it says that it is no CA" if found is not None else "it does not say that it is a CA"
        mend = "issue that CA certificate anew with basicConstraints CA:TRUE, critical; or a leaf was used to sign"
        return place.failed(check, f"{what}, yet it issued a certificate", fault="not-a-ca", mend=mend)
    if not place.facts.is_critical(x509.BasicConstraints):
        return place.noted(check, "a CA, but the extension is not critical as RFC 5280 wants it")
    return place.passed(check, "a CA")


def path_length(place: Place, question: Question) -> Step | None:
    """No more CAs stand below than it allows; self-issued ones do not count (section 6.1.4 (l), (m))."""
    del question
    found = place.facts.find(x509.BasicConstraints)
    if place.is_leaf or found is None or not found.ca or found.path_length is None:
        return None
    below = sum(not one.is_self_issued for one in place.candidate.path[1 : place.position])
    if below > found.path_length:
        return place.failed(
            "path length",
            f"it allows {found.path_length} CAs below itself, and there are {below}",
            fault="path-length",
            mend="have the leaf issued higher up, or that CA certificate issued with a larger pathlen",
        )
    return place.passed("path length", f"{below} CAs below it, {found.path_length} allowed")


def key_usage(place: Place, question: Question) -> Step:
    """Its key may do what it does here: sign certificates, or sign a handshake (section 4.2.1.3)."""
    del question
    check, found = "key usage", place.facts.find(x509.KeyUsage)
    if found is None:
        return place.passed(check, "not restricted")
    if place.is_leaf:
        if not found.digital_signature:
            return place.failed(
                check,
                "it does not allow digitalSignature, and TLS 1.3 and every ECDHE handshake sign",
                fault="wrong-key-usage",
                mend="have it issued with keyUsage digitalSignature",
            )
        return place.passed(check, "digitalSignature")
    if not found.key_cert_sign:
        return place.failed(
            check,
            "it does not allow keyCertSign, yet it issued a certificate",
            fault="not-a-ca",
            mend="issue that CA certificate anew with keyUsage keyCertSign",
        )
    return place.passed(check, "keyCertSign")


def extended_key_usage(place: Place, question: Question) -> Step:
    """It is meant for the purpose; what a CA lists limits everything below it, as TLS libraries have it."""
    check, found = "extended key usage", place.facts.find(x509.ExtendedKeyUsage)
    wanted, side = _USAGES[question.purpose], _SIDES[question.purpose]
    if found is None:
        return place.passed(check, "not restricted")
    if wanted in found:
        return place.passed(check, f"for {side}")
    others = ", ".join(name for usage, name in _SIDES.items() if _USAGES[usage] in found)
    any_purpose = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in found
    kinds = (
        "anyExtendedKeyUsage, which TLS libraries do not take for one" if any_purpose else others or "something else"
    )
    if place.is_leaf:
        mend = f"have it issued with extendedKeyUsage {question.purpose.value}, or ask for the other --purpose"
    else:
        mend = f"use a CA that may issue for {side}, or have that CA certificate issued without the restriction"
    return place.failed(check, f"it is meant for {kinds}, not for {side}", fault="certificate-wrong-purpose", mend=mend)


def critical_extensions(place: Place, question: Question) -> Step | None:
    """What is critical is understood (section 4.2)."""
    del question
    unknown = [
        one.oid.dotted_string for one in place.facts.extensions.values() if one.critical and one.oid not in _PROCESSED
    ]
    if not unknown:
        return None
    return place.failed(
        "critical extensions",
        f"it has critical extensions that are not understood here: {', '.join(unknown)}",
        fault="unknown-critical-extension",
        mend="have it issued without them, or not critical; every verifier that does not know them must refuse it",
    )


def trust(place: Place, question: Question) -> Step | None:
    """The path ends in an anchor; where it breaks off, why."""
    del question
    check, facts, candidate = "trust", place.facts, place.candidate
    if place.position != len(candidate.path) - 1:
        return None
    if candidate.anchored:
        return place.passed(check, f"{facts.label} is trusted")
    issuer = label_of(facts.issuer)
    if facts.is_self_issued and Link(facts, facts).is_good:
        if place.is_leaf:
            mend = "have it issued by a CA that is trusted, or trust it alone: --ca with this file"
            return place.failed(check, "it signed itself and is not trusted", fault="self-signed", mend=mend)
        mend = f"if {facts.label} is to be trusted, give its certificate with --ca"
        return place.failed(check, f"the root {facts.label} is not trusted", fault="untrusted-root", mend=mend)
    if candidate.namesakes:
        if any(_claims(facts, namesake) for namesake in candidate.namesakes):
            mend = "fetch the certificate again from where it was issued; if it is the same there, have it issued anew"
            return place.failed(
                check,
                f"the signature on it is not that of {issuer}, whose key it names: it was changed or damaged",
                fault="certificate-bad-signature",
                mend=mend,
            )
        mend = "give the CA that really issued it; a CA that was made anew under its old name has another key"
        return place.failed(
            check, f"the {issuer} that is known here has another key", fault="untrusted-root", mend=mend
        )
    where = _issuer_url(facts)
    mend = (
        f"put the certificate of {issuer} behind the leaf in its file{where}, or give it with --ca when it is the root"
    )
    return place.failed(
        check, f"its issuer {issuer} is neither sent nor trusted", fault="missing-intermediate", mend=mend
    )


def _claims(facts: Facts, namesake: Facts) -> bool:
    """Whether it says that this very key signed it; without an identifier the name alone says so."""
    authority, own = facts.find(x509.AuthorityKeyIdentifier), namesake.find(x509.SubjectKeyIdentifier)
    if authority is None or authority.key_identifier is None or own is None:
        return True
    return authority.key_identifier == own.digest


def _issuer_url(facts: Facts) -> str:
    access = facts.find(x509.AuthorityInformationAccess)
    for one in access or ():
        if one.access_method == x509.oid.AuthorityInformationAccessOID.CA_ISSUERS:
            return f" (it says where it can be fetched: {one.access_location.value})"
    return ""


def _weak_hash(certificate: x509.Certificate) -> str:
    try:
        algorithm = certificate.signature_hash_algorithm
    except MALFORMED:
        return ""
    return _WEAK_HASHES.get(algorithm.name, "") if algorithm is not None else ""


def _moment(when: object) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
