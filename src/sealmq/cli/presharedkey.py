"""The options of `pub`, `sub` and `bench` that name a pre-shared key, turned into one.

It refuses to know what is done with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.errors import UsageError

if TYPE_CHECKING:
    from sealmq.cli.app import Globals
    from sealmq.cli.dial import Who
    from sealmq.client.target import Target
    from sealmq.tls.presharedkey import Psk

_CERTIFICATES = ("cafile", "capath", "system_ca", "cert", "key", "crl", "pin")


def of(options: Globals, target: Target, who: Who) -> Psk:
    """The key that is named: --psk-file, --as, or --psk-identity with --psk.

    Raises `UsageError` for options that do not go together, `ConfigError` for a file that holds no key, `NotSo` for a
    device without one.
    """
    from sealmq.client.opening import check_kind
    from sealmq.tls.presharedkey import Psk, key_of

    check_kind(target, is_psk=who.gives_psk or who.device is not None)
    if any(getattr(who, name) for name in _CERTIFICATES):
        raise UsageError(
            "certificates and a pre-shared key are named",
            mend="with mqtts+psk leave --cafile, --cert, --key, --pin and their like out",
        )
    if [who.psk_file, who.device, who.psk].count(None) != 2:
        raise UsageError(
            "whose pre-shared key it is is not clear",
            mend="give one of --psk-file FILE, --as ID, and --psk-identity ID with --psk HEX",
        )
    if who.psk_file is not None:
        return Psk.read(who.psk_file, identity=who.psk_identity)
    if who.psk is not None:
        if who.psk_identity is None:
            raise UsageError("--psk has no identity", mend="give --psk-identity ID, or the file: --psk-file FILE")
        return Psk(who.psk_identity, key_of(who.psk_identity, who.psk))
    if who.psk_identity is not None:
        raise UsageError("--as and --psk-identity name two identities", mend="give one of them")
    from sealmq.datafolder import DataFolder
    from sealmq.pki.psk import device_file

    return Psk.read(device_file(DataFolder.open(options.data), str(who.device)))
