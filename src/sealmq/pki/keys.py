"""Private keys as files hold them: made, written as PKCS #8, read back, and judged for strength.

It knows nothing of certificates, or of where a key is stored and whose it is.
"""

from __future__ import annotations

import base64
import enum
import re
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sealmq.errors import ConfigError, UsageError
from sealmq.pki.keyder import with_exact_scalar

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
"""The private keys that sign certificates and requests here."""

RSA_BITS = 3072
"""The default: as strong as P-256 (NIST SP 800-57, part 1, table 2)."""

RSA_SIZES = range(2048, 8192 + 1)
"""Bits. Below it TLS libraries refuse the key (RFC 9325, section 4.5); beyond it verifying is work for an attacker to
give away."""


class KeyType(enum.Enum):
    """What `generate` makes."""

    P256 = "p256"
    P384 = "p384"
    RSA = "rsa"
    ED25519 = "ed25519"


def generate(kind: KeyType = KeyType.P256, *, bits: int | None = None) -> SigningKey:
    """A fresh key from the system's random source. `bits` is for RSA alone, a multiple of 256, 3072 by default.

    Raises `UsageError` for `bits` that make no sense.
    """
    if bits is not None and kind is not KeyType.RSA:
        raise UsageError(f"a {kind.value} key has no choice of bits", mend="leave --bits out, or use --type rsa")
    match kind:
        case KeyType.P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
    size = RSA_BITS if bits is None else bits
    if size not in RSA_SIZES or size % 256:
        raise UsageError(f"an RSA key of {size} bits is not made here", mend="use 2048, 3072 or 4096")
    return rsa.generate_private_key(public_exponent=65537, key_size=size)


def pkcs8_pem(key: SigningKey, *, passphrase: bytes | None = None) -> bytes:
    """`key` as PKCS #8 PEM, encrypted under `passphrase` when there is one (PBES2, AES-256): for `write_private`."""
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        protection = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def load(data: bytes, *, path: Path, passphrase: bytes | None = None) -> SigningKey:
    """The private key in the PEM or DER text of `path`; certificates beside it in a PEM file are passed over.

    Raises `ConfigError` naming `path`, with code `key-encrypted` when it is under a passphrase and none was given,
    `key-passphrase` when the given one is wrong or there is nothing to decrypt, `key-invalid`, or `key-type` for one
    that cannot sign here.
    """
    try:
        key = parse(data, passphrase)
    except TypeError:
        if passphrase is None:
            raise ConfigError(
                f"key file {path} is under a passphrase",
                mend="give the file that holds it with --passphrase-file",
                code="key-encrypted",
            ) from None
        try:
            key = parse(data, None)  # a passphrase too many does no harm
        except (ValueError, UnsupportedAlgorithm):
            raise _invalid(path) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        if passphrase is not None and b"ENCRYPTED" in data:
            raise ConfigError(
                f"passphrase does not open key file {path}",
                mend=f"check the passphrase file; if it is right: openssl pkey -in {path} -aes256 -out NEW",
                code="key-passphrase",
            ) from error
        raise _invalid(path) from error
    if not isinstance(key, SigningKey):
        raise ConfigError(
            f"key file {path} holds a key that cannot sign certificates: {type(key).__name__.strip('_')}",
            mend="make one with: sealmq cert key",
            code="key-type",
        )
    return key


def parse(data: bytes, passphrase: bytes | None) -> PrivateKeyTypes:
    """Any private key, PEM or DER; EC keys as GnuTLS 3.7 writes them too (`keyder`).

    Raises TypeError when a passphrase is missing or one too many, ValueError and `UnsupportedAlgorithm` for the rest.
    """
    is_pem = b"-----BEGIN" in data
    try:
        load = serialization.load_pem_private_key if is_pem else serialization.load_der_private_key
        return load(data, passphrase)
    except ValueError:
        der = _der_of(data) if is_pem else data
        mended = with_exact_scalar(der)
        if mended == der:
            raise
        return serialization.load_der_private_key(mended, None)


def weakness(key: object) -> str:
    """Why a public key must not be certified, in one clause; empty when nothing speaks against it.

    Accepted are P-256, P-384, RSA from 2048 to 8192 bits and Ed25519: what TLS libraries of devices and the broker's
    own agree on.
    """
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < RSA_SIZES.start:
            return f"it is an RSA key of {key.key_size} bits, and below {RSA_SIZES.start} they can be broken"
        if key.key_size >= RSA_SIZES.stop:
            return f"it is an RSA key of {key.key_size} bits, which is work for others to verify and no safer"
        if key.public_numbers().e < 65_537:
            return f"it is an RSA key with the exponent {key.public_numbers().e}, below 65537"
        return ""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "" if key.curve.name in {"secp256r1", "secp384r1"} else f"it is on the curve {key.curve.name}"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return ""
    return f"it is of a kind that TLS does not use ({type(key).__name__.strip('_').removesuffix('PublicKey')})"


def digest_for(key: SigningKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """The hash to sign with: as strong as the key; None for Ed25519, which brings its own (RFC 8032)."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    is_p384 = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256
    return hashes.SHA384() if is_p384 else hashes.SHA256()


def _der_of(pem: bytes) -> bytes:
    """The first private key of a PEM text that is not under a passphrase; empty when there is none."""
    block = re.search(rb"-----BEGIN (EC )?PRIVATE KEY-----([A-Za-z0-9+/=\s]*)-----END", pem)
    try:
        return base64.b64decode(b"".join(block[2].split()), validate=True) if block is not None else b""
    except ValueError:
        return b""


def _invalid(path: Path) -> ConfigError:
    return ConfigError(
        f"key file {path} holds no private key",
        mend="give a private key in PEM or DER form, such as sealmq cert key or openssl genpkey make",
        code="key-invalid",
    )
