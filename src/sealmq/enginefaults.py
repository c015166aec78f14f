"""What the data plane reports as wrong, turned into an error of this package: the one place that maps its codes.

It refuses to know the data plane itself; a code, a sentence and a mend come in as text.
"""

from __future__ import annotations

from sealmq.errors import (
    ConfigError,
    DataFolderError,
    Environment,
    LocalMisuse,
    NotSo,
    PeerFault,
    SealmqError,
    UsageError,
)

_CONFIGURATION = {
    "certificate-invalid",
    "key-invalid",
    "key-mismatch",
    "ca-invalid",
    "client-ca-invalid",
    "client-crl-invalid",
    "ticket-key-invalid",
    "psk-invalid",
    "user-invalid",
    "rule-invalid",
    "config-invalid",
    "address-invalid",
}
_STORE = {"store-damaged", "store-foreign", "store-newer", "store-older", "store-other-fleet", "network-file-system"}
_MACHINE = {
    "address-in-use",
    "address-not-available",
    "permission-denied",
    "dns",
    "environment",
    "store-exists",
    "store-failed",
    "store-full",
    "store-locked",
    "store-read-only",
    "store-unreadable",
}
_REFUSED = {"connection-refused", "timeout", "connack", "closed", "packet-too-large", "stopped"}
_ABSENT = {"store-missing", "store-none"}

_MENDS = {
    "address-in-use": "stop the program that listens there (`ss -ltnp` shows it), or choose another port",
    "address-not-available": "choose an address of this machine (`ip -brief address` lists them), or 0.0.0.0 for all",
    "permission-denied": "choose a port from 1024 up, such as 8883",
    "address-invalid": "write HOST:PORT, such as 127.0.0.1:8883",
    "dns": "check the host name in the URL",
    "connection-refused": "nothing listens there: check host and port, and that the broker runs (`sealmq status`)",
    "timeout": "check host and port, and that no firewall drops the packets",
}


def from_engine(code: str, message: str = "", mend: str = "") -> SealmqError:
    """The error for the three values that an `EngineError` carries as `args`; its code and words are kept."""
    kind: type[SealmqError]
    if code in _CONFIGURATION:
        kind = ConfigError
    elif code in _STORE:
        kind = DataFolderError
    elif code in _MACHINE:
        kind = Environment
    elif code in _REFUSED | _ABSENT or code.startswith(("tls-", "http-", "websocket-")):
        kind = NotSo
    elif code == "peer-fault":
        kind = PeerFault
    elif code == "plaintext-refused":
        kind = UsageError
    else:
        kind = LocalMisuse
    return kind(message or code, mend=mend or _MENDS.get(code, ""), code=code)


def bind_fault(address: str, error: OSError) -> SealmqError:
    """The error for a socket that cannot listen on `address`, in the same words as the data plane's listeners."""
    import errno

    codes = {
        errno.EADDRINUSE: ("address-in-use", f"address {address} is in use by another program"),
        errno.EADDRNOTAVAIL: ("address-not-available", f"address {address} does not belong to this machine"),
        errno.EACCES: ("permission-denied", f"port of {address} needs a privilege that this user does not have"),
    }
    reason = (error.strerror or str(error)).lower()
    code, message = codes.get(
        error.errno or 0, ("address-invalid", f"address {address} cannot be listened on: {reason}")
    )
    return from_engine(code, message)
