"""The cipher suites that can be decoded: name, key exchange, signature, cipher, and hash of each.

It refuses to know how anything is computed with them. Names are those of the IANA registry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["gcm", "ccm", "ccm8", "chacha", "cbc", "null"]
Exchange = Literal["any", "RSA", "ECDHE", "DHE", "PSK", "ECDHE-PSK", "DHE-PSK", "RSA-PSK", "anon"]


@dataclass(frozen=True, slots=True)
class Suite:
    """One cipher suite.

    `hash` is that of the key schedule: HKDF in TLS 1.3, PRF in TLS 1.2. `key` and `mac` are lengths in bytes; `mac` is
    0 for AEAD ciphers. `fixed_iv` is the part of the nonce that comes from the key block.
    """

    number: int
    name: str
    exchange: Exchange
    kind: Kind
    key: int
    hash: str
    mac: int = 0

    @property
    def fixed_iv(self) -> int:
        """Bytes: 4 for GCM and CCM (RFC 5288, RFC 6655), 12 for ChaCha20 (RFC 7905), 0 without AEAD."""
        return {"gcm": 4, "ccm": 4, "ccm8": 4, "chacha": 12}.get(self.kind, 0)

    @property
    def tag(self) -> int:
        """Bytes of the AEAD tag."""
        return 8 if self.kind == "ccm8" else 16

    @property
    def has_shared_key(self) -> bool:
        """Whether its secret comes from a pre-shared key, alone or with a fresh agreement."""
        return "PSK" in self.exchange

    @property
    def mac_hash(self) -> str:
        """The hash of the record MAC of a CBC or NULL suite."""
        return {16: "md5", 20: "sha1", 32: "sha256", 48: "sha384"}[self.mac]


_EXCHANGES: dict[str, Exchange] = {
    "RSA": "RSA",
    "DHE_RSA": "DHE",
    "ECDHE_RSA": "ECDHE",
    "ECDHE_ECDSA": "ECDHE",
    "PSK": "PSK",
    "ECDHE_PSK": "ECDHE-PSK",
    "DHE_PSK": "DHE-PSK",
}

# exchange, then (number, cipher and hash as in the IANA name)
_TLS12: dict[str, tuple[tuple[int, str], ...]] = {
    "RSA": (
        (0x0001, "NULL_MD5"),
        (0x0002, "NULL_SHA"),
        (0x003B, "NULL_SHA256"),
        (0x002F, "AES_128_CBC_SHA"),
        (0x0035, "AES_256_CBC_SHA"),
        (0x003C, "AES_128_CBC_SHA256"),
        (0x003D, "AES_256_CBC_SHA256"),
        (0x009C, "AES_128_GCM_SHA256"),
        (0x009D, "AES_256_GCM_SHA384"),
        (0xC09C, "AES_128_CCM"),
        (0xC09D, "AES_256_CCM"),
        (0xC0A0, "AES_128_CCM_8"),
        (0xC0A1, "AES_256_CCM_8"),
    ),
    "DHE_RSA": (
        (0x0033, "AES_128_CBC_SHA"),
        (0x0039, "AES_256_CBC_SHA"),
        (0x0067, "AES_128_CBC_SHA256"),
        (0x006B, "AES_256_CBC_SHA256"),
        (0x009E, "AES_128_GCM_SHA256"),
        (0x009F, "AES_256_GCM_SHA384"),
        (0xC09E, "AES_128_CCM"),
        (0xC09F, "AES_256_CCM"),
        (0xC0A2, "AES_128_CCM_8"),
        (0xC0A3, "AES_256_CCM_8"),
        (0xCCAA, "CHACHA20_POLY1305_SHA256"),
    ),
    "ECDHE_ECDSA": (
        (0xC006, "NULL_SHA"),
        (0xC009, "AES_128_CBC_SHA"),
        (0xC00A, "AES_256_CBC_SHA"),
        (0xC023, "AES_128_CBC_SHA256"),
        (0xC024, "AES_256_CBC_SHA384"),
        (0xC02B, "AES_128_GCM_SHA256"),
        (0xC02C, "AES_256_GCM_SHA384"),
        (0xC0AC, "AES_128_CCM"),
        (0xC0AD, "AES_256_CCM"),
        (0xC0AE, "AES_128_CCM_8"),
        (0xC0AF, "AES_256_CCM_8"),
        (0xCCA9, "CHACHA20_POLY1305_SHA256"),
    ),
    "ECDHE_RSA": (
        (0xC010, "NULL_SHA"),
        (0xC013, "AES_128_CBC_SHA"),
        (0xC014, "AES_256_CBC_SHA"),
        (0xC027, "AES_128_CBC_SHA256"),
        (0xC028, "AES_256_CBC_SHA384"),
        (0xC02F, "AES_128_GCM_SHA256"),
        (0xC030, "AES_256_GCM_SHA384"),
        (0xCCA8, "CHACHA20_POLY1305_SHA256"),
    ),
    "PSK": (
        (0x008C, "AES_128_CBC_SHA"),
        (0x008D, "AES_256_CBC_SHA"),
        (0x00A8, "AES_128_GCM_SHA256"),
        (0x00A9, "AES_256_GCM_SHA384"),
        (0x00AE, "AES_128_CBC_SHA256"),
        (0x00AF, "AES_256_CBC_SHA384"),
        (0xC0A4, "AES_128_CCM"),
        (0xC0A5, "AES_256_CCM"),
        (0xC0A8, "AES_128_CCM_8"),
        (0xC0A9, "AES_256_CCM_8"),
        (0xCCAB, "CHACHA20_POLY1305_SHA256"),
    ),
    "DHE_PSK": (
        (0x00AA, "AES_128_GCM_SHA256"),
        (0x00AB, "AES_256_GCM_SHA384"),
        (0x00B2, "AES_128_CBC_SHA256"),
        (0x00B3, "AES_256_CBC_SHA384"),
        (0xC0A6, "AES_128_CCM"),
        (0xC0A7, "AES_256_CCM"),
        (0xCCAD, "CHACHA20_POLY1305_SHA256"),
    ),
    "ECDHE_PSK": (
        (0xC035, "AES_128_CBC_SHA"),
        (0xC036, "AES_256_CBC_SHA"),
        (0xC037, "AES_128_CBC_SHA256"),
        (0xC038, "AES_256_CBC_SHA384"),
        (0xCCAC, "CHACHA20_POLY1305_SHA256"),
        (0xD001, "AES_128_GCM_SHA256"),
        (0xD002, "AES_256_GCM_SHA384"),
        (0xD003, "AES_128_CCM_8_SHA256"),
        (0xD005, "AES_128_CCM_SHA256"),
    ),
}

_TLS13 = (
    Suite(0x1301, "TLS_AES_128_GCM_SHA256", "any", "gcm", 16, "sha256"),
    Suite(0x1302, "TLS_AES_256_GCM_SHA384", "any", "gcm", 32, "sha384"),
    Suite(0x1303, "TLS_CHACHA20_POLY1305_SHA256", "any", "chacha", 32, "sha256"),
    Suite(0x1304, "TLS_AES_128_CCM_SHA256", "any", "ccm", 16, "sha256"),
    Suite(0x1305, "TLS_AES_128_CCM_8_SHA256", "any", "ccm8", 16, "sha256"),
)


def _tls12(number: int, front: str, cipher: str) -> Suite:
    mac_name = cipher.rpartition("_")[2]
    kinds: tuple[tuple[str, Kind], ...] = (
        ("CCM_8", "ccm8"),
        ("CCM", "ccm"),
        ("GCM", "gcm"),
        ("CHACHA20", "chacha"),
        ("CBC", "cbc"),
        ("NULL", "null"),
    )
    kind: Kind = next(kind for word, kind in kinds if word in cipher)
    key = 0 if kind == "null" else 16 if "AES_128" in cipher else 32
    mac = {"MD5": 16, "SHA": 20, "SHA256": 32, "SHA384": 48}[mac_name] if kind in ("cbc", "null") else 0
    # RFC 5246, section 5: SHA-256 unless the suite names SHA-384
    return Suite(
        number,
        f"TLS_{front}_WITH_{cipher}",
        _EXCHANGES[front],
        kind,
        key,
        "sha384" if "SHA384" in cipher else "sha256",
        mac,
    )


SUITES = {suite.number: suite for suite in _TLS13} | {
    number: _tls12(number, front, cipher) for front, ciphers in _TLS12.items() for number, cipher in ciphers
}

_SIGNALS = {0x00FF: "TLS_EMPTY_RENEGOTIATION_INFO_SCSV", 0x5600: "TLS_FALLBACK_SCSV"}


def name(number: int) -> str:
    """A cipher suite or signalling value in words, its number when there is none."""
    from sealmq.trace.tls import names, othersuites

    if number in SUITES:
        return SUITES[number].name
    unknown = "GREASE" if names.is_grease(number) else f"suite 0x{number:04x}"
    return _SIGNALS.get(number) or othersuites.NAMES.get(number, unknown)
