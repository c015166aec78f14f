"""The numbers of TLS in words: records, messages, alerts, versions, extensions, groups and signature schemes.

It refuses to know what a number means for a connection; cipher suites have a module of their own. The names are those
of the IANA registry "Transport Layer Security (TLS) Parameters".
"""

from __future__ import annotations

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
CONTENT_TYPES = {20: "ChangeCipherSpec", 21: "Alert", 22: "Handshake", 23: "ApplicationData"}

VERSIONS = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}
TLS10, TLS11, TLS12, TLS13 = 0x0301, 0x0302, 0x0303, 0x0304

MESSAGES = {
    0: "HelloRequest",
    1: "ClientHello",
    2: "ServerHello",
    4: "NewSessionTicket",
    5: "EndOfEarlyData",
    8: "EncryptedExtensions",
    11: "Certificate",
    12: "ServerKeyExchange",
    13: "CertificateRequest",
    14: "ServerHelloDone",
    15: "CertificateVerify",
    16: "ClientKeyExchange",
    20: "Finished",
    22: "CertificateStatus",
    24: "KeyUpdate",
    25: "CompressedCertificate",
}

ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}

CERTIFICATE_ALERTS = frozenset({42, 43, 44, 45, 46, 48, 49, 51, 113, 116})
"""Those that can be about the certificate of the one who receives them."""
NO_CERTIFICATE_ALERTS = CERTIFICATE_ALERTS | {40, 50}
"""Those that can answer a Certificate message without certificates: handshake_failure (RFC 5246, section 7.4.6), and
decode_error from GnuTLS."""
SHARED_KEY_ALERTS = frozenset({20, 40, 47, 51, 115})
"""Those that can be about the pre-shared key of the one who receives them: a Finished or a binder that does not fit, or
an identity that is not known (RFC 4279, section 2; RFC 8446, section 4.2.11)."""

EXTENSIONS = {
    0: "server_name",
    1: "max_fragment_length",
    5: "status_request",
    10: "supported_groups",
    11: "ec_point_formats",
    13: "signature_algorithms",
    14: "use_srtp",
    15: "heartbeat",
    16: "application_layer_protocol_negotiation",
    18: "signed_certificate_timestamp",
    19: "client_certificate_type",
    20: "server_certificate_type",
    21: "padding",
    22: "encrypt_then_mac",
    23: "extended_master_secret",
    27: "compress_certificate",
    28: "record_size_limit",
    34: "delegated_credential",
    35: "session_ticket",
    41: "pre_shared_key",
    42: "early_data",
    43: "supported_versions",
    44: "cookie",
    45: "psk_key_exchange_modes",
    47: "certificate_authorities",
    48: "oid_filters",
    49: "post_handshake_auth",
    50: "signature_algorithms_cert",
    51: "key_share",
    57: "quic_transport_parameters",
    65037: "encrypted_client_hello",
    65281: "renegotiation_info",
}

GROUPS = {
    1: "sect163k1",
    19: "secp192r1",
    21: "secp224r1",
    22: "secp256k1",
    23: "P-256",
    24: "P-384",
    25: "P-521",
    26: "brainpoolP256r1",
    27: "brainpoolP384r1",
    28: "brainpoolP512r1",
    29: "X25519",
    30: "X448",
    31: "brainpoolP256r1tls13",
    32: "brainpoolP384r1tls13",
    33: "brainpoolP512r1tls13",
    256: "ffdhe2048",
    257: "ffdhe3072",
    258: "ffdhe4096",
    259: "ffdhe6144",
    260: "ffdhe8192",
    512: "ML-KEM-512",
    513: "ML-KEM-768",
    514: "ML-KEM-1024",
    4587: "SecP256r1MLKEM768",
    4588: "X25519MLKEM768",
    4589: "SecP384r1MLKEM1024",
    25497: "X25519Kyber768Draft00",
}
"""The NIST curves and X25519 under the names people use; the rest as registered."""

POST_QUANTUM_GROUPS = frozenset({512, 513, 514, 4587, 4588, 4589, 25497})

SIGNATURES = {
    0x0101: "rsa_pkcs1_md5",
    0x0201: "rsa_pkcs1_sha1",
    0x0202: "dsa_sha1",
    0x0203: "ecdsa_sha1",
    0x0301: "rsa_pkcs1_sha224",
    0x0302: "dsa_sha224",
    0x0303: "ecdsa_sha224",
    0x0401: "rsa_pkcs1_sha256",
    0x0402: "dsa_sha256",
    0x0403: "ecdsa_secp256r1_sha256",
    0x0501: "rsa_pkcs1_sha384",
    0x0502: "dsa_sha384",
    0x0503: "ecdsa_secp384r1_sha384",
    0x0601: "rsa_pkcs1_sha512",
    0x0602: "dsa_sha512",
    0x0603: "ecdsa_secp521r1_sha512",
    0x0804: "rsa_pss_rsae_sha256",
    0x0805: "rsa_pss_rsae_sha384",
    0x0806: "rsa_pss_rsae_sha512",
    0x0807: "ed25519",
    0x0808: "ed448",
    0x0809: "rsa_pss_pss_sha256",
    0x080A: "rsa_pss_pss_sha384",
    0x080B: "rsa_pss_pss_sha512",
    0x0904: "mldsa44",
    0x0905: "mldsa65",
    0x0906: "mldsa87",
}

PSK_MODES = {0: "psk_ke (no fresh key agreement)", 1: "psk_dhe_ke (with a fresh key agreement)"}
POINT_FORMATS = {0: "uncompressed", 1: "compressed_prime", 2: "compressed_char2"}
CERTIFICATE_TYPES = {1: "rsa_sign", 2: "dss_sign", 3: "rsa_fixed_dh", 4: "dss_fixed_dh", 64: "ecdsa_sign"}


def version(number: int) -> str:
    """A protocol version in words: `TLS 1.3`; `0x7f17` for one that has none."""
    return VERSIONS.get(number, "GREASE" if is_grease(number) else f"0x{number:04x}")


def group(number: int) -> str:
    """A key exchange group: `X25519`, `P-256`."""
    return GROUPS.get(number, "GREASE" if is_grease(number) else f"group 0x{number:04x}")


def signature(number: int) -> str:
    """A signature scheme: `ecdsa_secp256r1_sha256`."""
    return SIGNATURES.get(number, "GREASE" if is_grease(number) else f"scheme 0x{number:04x}")


def extension(number: int) -> str:
    """An extension: `server_name`."""
    return EXTENSIONS.get(number, "GREASE" if is_grease(number) else f"extension {number}")


def alert(number: int) -> str:
    """An alert: `unknown_ca`."""
    return ALERTS.get(number, f"alert {number}")


def message(number: int) -> str:
    """A handshake message: `ClientHello`."""
    return MESSAGES.get(number, f"handshake message {number}")


def is_grease(number: int) -> bool:
    """Whether a 16-bit value is one of those that mean nothing on purpose (RFC 8701)."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF
