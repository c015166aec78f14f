"""Names as people write them on a command line, turned into those of X.509.

It knows nothing of which names somebody may have.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from cryptography import x509
from cryptography.x509.oid import NameOID

from sealmq.errors import UsageError
from sealmq.pki.names import check_host

_ATTRIBUTES = {
    "CN": NameOID.COMMON_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "SERIALNUMBER": NameOID.SERIAL_NUMBER,
    "EMAILADDRESS": NameOID.EMAIL_ADDRESS,
}
_EXAMPLE = "write it like CN=sensor-1,O=Example, or like openssl: /O=Example/CN=sensor-1"


def parse_subject(text: str) -> x509.Name:
    """`CN=sensor-1,O=Example` (RFC 4514, the last part first in the name) or `/O=Example/CN=sensor-1`; empty is empty.

    Raises `UsageError` with code `subject-invalid`.
    """
    if not text:
        return x509.Name([])
    try:
        if not text.startswith("/"):
            return x509.Name.from_rfc4514_string(text, attr_name_overrides={"SERIALNUMBER": NameOID.SERIAL_NUMBER})
        parts = [part.partition("=") for part in re.split(r"(?<!\\)/", text[1:])]
        if not all(equals for _, equals, _ in parts):
            raise _bad_subject(text, "a part has no =")
        attributes = [(_ATTRIBUTES[key.strip().upper()], value.replace("\\/", "/")) for key, _, value in parts]
        return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
    except KeyError as error:
        raise _bad_subject(text, f"the part {error.args[0]} is not known") from None
    except ValueError as error:
        raise _bad_subject(text, " ".join(str(error).split()).rstrip(".") or "a part has no =") from None


def parse_alternative_name(text: str) -> x509.GeneralName:
    """`DNS:broker.example`, `IP:192.0.2.7`, `URI:spiffe://…`, `email:me@example.org`, or a plain host name or address.

    Raises `UsageError` with code `name-invalid` or `host-name-invalid`.
    """
    kind, colon, value = text.partition(":")
    try:
        match kind.lower() if colon else "":
            case "dns":
                host = check_host(value)
                if not isinstance(host, str):
                    raise _bad_name(text, f"{value} is an address", f"write IP:{value}")
                return x509.DNSName(host)
            case "ip":
                return x509.IPAddress(ip_address(value))
            case "uri":
                if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:.", value):
                    raise _bad_name(text, "it has no scheme", "write it like URI:spiffe://fleet/device/sensor-1")
                return x509.UniformResourceIdentifier(value)
            case "email":
                return x509.RFC822Name(value)
        host = check_host(text)
        return x509.DNSName(host) if isinstance(host, str) else x509.IPAddress(host)
    except ValueError as error:
        raise _bad_name(
            text, " ".join(str(error).split()).rstrip("."), "DNS:, IP:, URI: and email: are known"
        ) from None


def _bad_subject(text: str, reason: str) -> UsageError:
    return UsageError(f"subject {text[:80]!r} cannot be used: {reason}", mend=_EXAMPLE, code="subject-invalid")


def _bad_name(text: str, reason: str, mend: str) -> UsageError:
    return UsageError(f"alternative name {text[:80]!r} cannot be used: {reason}", mend=mend, code="name-invalid")
