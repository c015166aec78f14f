"""What pyca/cryptography raises for DER that is not what it should be: six kinds, in one tuple to catch.

It knows nothing of what was to be read. Much is parsed on first use only, so a certificate that was loaded may still
raise one of these when its subject or its extensions are asked for; `whole` asks for them.
"""

import warnings

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def whole(certificate: x509.Certificate) -> x509.Certificate:
    """`certificate` when its names, key and extensions can be read too. Raises one of `MALFORMED`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what was tolerated
        _ = certificate.subject, certificate.issuer, certificate.extensions, certificate.public_key()
    return certificate


def reason(error: Exception) -> str:
    """What such an error says, on one line without a full stop."""
    text = " ".join((str(error) or type(error).__name__).split()).rstrip(".")
    return text[:1].lower() + text[1:]
