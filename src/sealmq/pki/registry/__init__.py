"""The registry: which devices there are, every certificate they were given, and what was decided about them.

It knows nothing of keys or of how certificates are made; it remembers what it is told and keeps it across a power cut.
"""

from sealmq.pki.registry.devices import Registry
from sealmq.pki.registry.records import (
    Approval,
    ApprovalState,
    CertificateRecord,
    CertificateStatus,
    Device,
    DeviceStatus,
    Ending,
    TokenRecord,
)
from sealmq.pki.registry.schema import SCHEMA_VERSION

__all__ = [
    "SCHEMA_VERSION",
    "Approval",
    "ApprovalState",
    "CertificateRecord",
    "CertificateStatus",
    "Device",
    "DeviceStatus",
    "Ending",
    "Registry",
    "TokenRecord",
]
