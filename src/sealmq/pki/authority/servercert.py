"""The broker's own certificate in `server/`: whether it still serves, and a new one when it does not.

It knows nothing of who shows it to whom, and of certificates that an operator brings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from sealmq.errors import Environment
from sealmq.pki import profiles, signing
from sealmq.pki.malformed import MALFORMED, whole
from sealmq.pki.names import Host, check_host, machine_hosts
from sealmq.secretfiles import ensure_private_dir, read_private, write_private, write_public

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from sealmq.pki.authority.ca import Authority
    from sealmq.pki.signing import Bundle


def ensure(
    authority: Authority, server_dir: Path, extra_names: Sequence[Host], *, not_for: Sequence[Host], now: datetime
) -> Bundle:
    """The certificate in that folder, with the chain it needs now.

    It names localhost, 127.0.0.1, ::1, the host name, the addresses of this machine and `extra_names`, but none of
    `not_for`. It is reissued when less than a third of its life is left, a name is missing or one too many, another CA
    issued it than the one that signs now, or its files are missing, damaged or do not fit each other. Raises
    `Environment` when it cannot be written, `UsageError` for an impossible name.
    """
    unwanted = {check_host(name) for name in not_for}
    hosts = dict.fromkeys([*machine_hosts(), *(check_host(name) for name in extra_names)])
    wanted = [host for host in hosts if host not in unwanted]
    present = _stored(server_dir)
    if present is not None and _still_serves(authority, present.certificate, wanted, unwanted, now):
        chain = signing.certificate_pem(present.certificate, authority.server_issuer.certificate, *authority.bridges())
        if chain != present.cert_chain_pem:  # a rotation has gone a step further
            write_public(server_dir / "cert.pem", chain)
        return signing.Bundle(chain, present.key_pem)
    made = authority.issue_server(wanted, now=now)
    ensure_private_dir(server_dir)
    # two files cannot be replaced at once: a crash in between leaves a pair that does not fit and is reissued
    write_private(server_dir / "key.pem", made.key_pem)
    write_public(server_dir / "cert.pem", made.cert_chain_pem)
    return made


def _stored(server_dir: Path) -> Bundle | None:
    try:
        key = read_private(server_dir / "key.pem")
        bundle = signing.Bundle((server_dir / "cert.pem").read_bytes(), key)
        loaded = serialization.load_pem_private_key(key, password=None)
        fits = loaded.public_key() == whole(bundle.certificate).public_key()
    except (Environment, OSError, *MALFORMED):
        return None  # whatever is wrong with it, a new one mends it
    return bundle if fits else None


def _still_serves(
    authority: Authority, certificate: x509.Certificate, wanted: list[Host], unwanted: set[Host], now: datetime
) -> bool:
    try:
        certificate.verify_directly_issued_by(authority.server_issuer.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, x509.ExtensionNotFound, *MALFORMED):
        return False
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    fresh = begin <= now and end - now >= profiles.RENEW_BELOW * (end - begin)
    if set(names) & set(signing.general_names(list(unwanted))):
        return False
    return fresh and set(signing.general_names(wanted)) <= set(names)
