"""The TLS policy of every listener, client and context: versions, cipher suites, groups; fixed, as data.

It knows nothing of any TLS library. There is no setting for it: what is not here is not spoken.

* TLS 1.2 and 1.3; SSL and TLS 1.0 and 1.1 are refused (RFC 8996).
* AEAD alone, and ephemeral keys alone: no CBC, no RSA key transport (RFC 9325, section 4.2).
* The hybrid X25519MLKEM768 first, so that recorded traffic stays closed to a later quantum computer.
"""

from __future__ import annotations

import ssl
from typing import Literal

Version = Literal["1.2", "1.3"]

VERSIONS: dict[Version, ssl.TLSVersion] = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

MINIMUM_VERSION = VERSIONS["1.2"]
MAXIMUM_VERSION = VERSIONS["1.3"]

TLS13_CIPHERS = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")
"""In the names of RFC 8446, which are also OpenSSL's."""

TLS12_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
"""In OpenSSL's names. The ones with RSA are for a broker with a public certificate; keys are ephemeral there too."""

GROUPS = ("X25519MLKEM768", "X25519", "P-256", "P-384")
"""Key exchange groups, the preferred one first."""

SECURITY_LEVEL = 2
"""OpenSSL's: no SHA-1 signatures, no RSA below 2048 bits, in certificates as in handshakes."""

OPENSSL_CIPHERS = ":".join((*TLS12_CIPHERS, f"@SECLEVEL={SECURITY_LEVEL}"))
"""The argument of `SSLContext.set_ciphers`."""
