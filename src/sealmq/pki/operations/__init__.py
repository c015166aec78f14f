"""What can be done with the identities of a data folder, one plain function each; a command and a broker call the same.

It knows nothing of sockets, of locks or of how results are shown: arguments and results are what JSON can carry.

Whoever calls an operation owns the folder (`DataFolder.lock`) and passes the authority and the registry it opened.
Times in results are ISO 8601, UTC, such as `2026-11-20T20:33:00Z`; paths are absolute; fingerprints lower-case hex.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.pki.devicefiles import DeviceFiles, device_files
from sealmq.pki.operations.approvals import device_approve, device_deny, device_pending
from sealmq.pki.operations.authority import ca_export, ca_show
from sealmq.pki.operations.certificates import cert_sign_device, cert_sign_server
from sealmq.pki.operations.devices import device_add, device_list, device_show
from sealmq.pki.operations.expiry import expiry
from sealmq.pki.operations.life import device_renew, device_retire, device_revoke, device_token, write_end
from sealmq.pki.operations.presharedkeys import device_add_psk
from sealmq.pki.operations.rotation import ca_rotate, ca_rotation
from sealmq.pki.operations.users import user_add, user_list, user_remove

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealmq.pki.operations.results import Result

__all__ = [
    "OPERATIONS",
    "DeviceFiles",
    "ca_export",
    "ca_rotate",
    "ca_rotation",
    "ca_show",
    "cert_sign_device",
    "cert_sign_server",
    "device_add",
    "device_add_psk",
    "device_approve",
    "device_deny",
    "device_files",
    "device_list",
    "device_pending",
    "device_renew",
    "device_retire",
    "device_revoke",
    "device_show",
    "device_token",
    "expiry",
    "user_add",
    "user_list",
    "user_remove",
    "write_end",
]

OPERATIONS: dict[str, Callable[..., Result]] = {
    "device-add": device_add,
    "device-add-psk": device_add_psk,
    "device-token": device_token,
    "device-list": device_list,
    "device-show": device_show,
    "device-pending": device_pending,
    "device-approve": device_approve,
    "device-deny": device_deny,
    "device-renew": device_renew,
    "device-revoke": device_revoke,
    "device-retire": device_retire,
    "cert-sign-device": cert_sign_device,
    "cert-sign-server": cert_sign_server,
    "expiry": expiry,
    "user-add": user_add,
    "user-list": user_list,
    "user-remove": user_remove,
    "ca-show": ca_show,
    "ca-export": ca_export,
    "ca-rotate": ca_rotate,
    "ca-rotation": ca_rotation,
}
"""By verb, as it crosses `control.sock`: `OPERATIONS[verb](folder, authority, registry, **args)`."""
