"""The names that go into certificates: device ids, their URIs, host names, and what this machine is called.

It knows nothing of certificates; it says whether a name may stand in one.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from sealmq.errors import UsageError

Host = str | IPv4Address | IPv6Address
"""A DNS name, or an address. A string that is an address counts as that address."""

_DEVICE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_RESERVED = {"anonymous", "user"}
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)", re.ASCII)
_SIOCGIFADDR = 0x8915  # linux/sockios.h


def check_device_id(text: str) -> str:
    """`text` when it can be a device id: 1 to 64 of A-Z a-z 0-9 `_` `-`.

    No dots, since OpenSSL takes a common name with a dot for a host name and applies name constraints to it; no `/`,
    `+`, `#` and `$`, since the id stands in topics [MQTT-4.7.1]; no `:`, since it parts the id from the rest of a
    client id; 64, since that is the upper bound of a common name (RFC 5280, appendix A.1).

    Not `anonymous` and not `user`, which stand for clients without a certificate in rules, logs and client ids.

    Raises `UsageError` with code `device-id-invalid`.
    """
    if _DEVICE_ID.fullmatch(text) and text not in _RESERVED:
        return text
    if text in _RESERVED:
        reason = "in rules and client ids this word means clients without a certificate"
    elif not text:
        reason = "it is empty"
    elif len(text) > 64:
        reason = f"it has {len(text)} characters, more than 64"
    else:
        wrong = next(character for character in text if not _DEVICE_ID.fullmatch(character))
        reason = f"it contains {wrong!r}"
    raise UsageError(
        f"device id {text[:80]!r} cannot be used: {reason}",
        mend="use 1 to 64 letters, digits, - and _ (no dots, no topic characters)",
        code="device-id-invalid",
    )


def check_group(text: str) -> str:
    """`text` when it can name a group of devices; the same letters as for a device id, since it stands in topics too.

    Raises `UsageError` with code `group-invalid`.
    """
    if _DEVICE_ID.fullmatch(text):
        return text
    raise UsageError(
        f"group name {text[:80]!r} cannot be used",
        mend="use 1 to 64 letters, digits, - and _ (no dots, no topic characters)",
        code="group-invalid",
    )


def device_uri(fleet: str, device_id: str) -> str:
    """The URI in the certificate of a device, `spiffe://<fleet>/device/<id>`.

    The form is that of SPIFFE; a certificate with clientAuth alone is not a conforming X.509-SVID.
    """
    return f"spiffe://{fleet}/device/{device_id}"


def check_host(name: Host) -> Host:
    """`name` as an address when it is one, else as a lower-case DNS name; `*.` may lead.

    Raises `UsageError` with code `host-name-invalid`; names in Unicode are to be given in their A-label form (`xn--`).
    """
    if not isinstance(name, str):
        return name
    with contextlib.suppress(ValueError):
        return ip_address(name.strip("[]"))
    labels = name.removesuffix(".").removeprefix("*.").split(".")
    if len(name) <= 253 and all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit():
        return name.removesuffix(".").lower()
    raise UsageError(
        f"server name {name[:80]!r} is neither a host name nor an address",
        mend="use a name such as broker.example or an address such as 192.0.2.7, without scheme and port",
        code="host-name-invalid",
    )


def machine_hosts() -> list[Host]:
    """What this machine is called: localhost, 127.0.0.1, ::1, its host name, and the addresses of its interfaces.

    Nothing is asked of the network. Link-local addresses are left out: they mean something else on every link.
    """
    hosts: list[Host] = ["localhost", IPv4Address("127.0.0.1"), IPv6Address("::1")]
    with contextlib.suppress(UsageError):  # a host name that no certificate can carry is not worth an error
        hosts.append(check_host(socket.gethostname()))
    hosts += _interface_addresses()
    return list(dict.fromkeys(hosts))


def _interface_addresses() -> list[IPv4Address | IPv6Address]:
    found: list[IPv4Address | IPv6Address] = []
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, interface in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without an IPv4 address
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
                found.append(IPv4Address(answer[20:24]))
    with contextlib.suppress(OSError, ValueError):
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
        found.extend(IPv6Address(bytes.fromhex(line.split()[0])) for line in lines)
    return [address for address in found if not (address.is_link_local or address.is_unspecified)]
