"""What each certificate of the system looks like: lifetimes, backdates, usages, names; as data, one row per kind.

It knows nothing of keys or of signing; `signing` turns a row into a certificate.

Why these values (RFC 5280 names in brackets):

* P-256 everywhere: Ed25519 issuers are refused by pyca's verifier and cannot be parsed by mbedTLS 2.28.
* The issuing CA for devices may sign no host name or address at all [4.2.1.10], beside clientAuth in its extended key
  usage: belt and braces. The constraint is *not* critical, because mbedTLS cannot parse a CA with a critical one;
  there are no URI constraints, because pyca and webpki refuse the whole chain and GnuTLS ignores them.
* A path length of 2 for a root: the bridge from the root before it stands between it and an issuing CA while a root is
  replaced, and OpenSSL, GnuTLS and mbedTLS hold a trust anchor to its path length.
* 30 days for a device: at least three times the longest time a device is expected offline. `short` is for what is
  always on, `sleepy` for what wakes up once a month.
* One hour of backdate for devices: their clocks are poor. Never before the issuer's own notBefore.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import timedelta

from sealmq.errors import UsageError


class Usage(enum.Enum):
    """The one extended key usage that a certificate carries; `NONE` leaves the extension out (roots)."""

    NONE = "none"
    CLIENT = "clientAuth"
    SERVER = "serverAuth"


@dataclass(frozen=True, slots=True)
class CaProfile:
    """A certificate authority: critical basicConstraints CA:TRUE, critical keyUsage keyCertSign and cRLSign."""

    label: str  # the subject is CN "<fleet> <label> <number>"
    lifetime: timedelta
    backdate: timedelta
    path_length: int
    usage: Usage
    # Excluded subtrees for every dNSName and iPAddress, non-critical; see the head of this module.
    signs_no_hosts: bool = False


@dataclass(frozen=True, slots=True)
class LeafProfile:
    """An end entity: critical basicConstraints CA:FALSE, critical keyUsage digitalSignature, one extended usage."""

    name: str
    lifetime: timedelta
    backdate: timedelta
    usage: Usage
    summary: str = ""


ROOT = CaProfile("Root", timedelta(days=3650), timedelta(minutes=5), path_length=2, usage=Usage.NONE)
DEVICE_ISSUER = CaProfile(
    "Devices", timedelta(days=365), timedelta(minutes=5), path_length=0, usage=Usage.CLIENT, signs_no_hosts=True
)
SERVER_ISSUER = CaProfile("Servers", timedelta(days=365), timedelta(minutes=5), path_length=0, usage=Usage.SERVER)

SERVER = LeafProfile("server", timedelta(days=30), timedelta(minutes=5), Usage.SERVER, "the broker itself")

DEVICE_PROFILES: dict[str, LeafProfile] = {
    profile.name: profile
    for profile in (
        LeafProfile("default", timedelta(days=30), timedelta(hours=1), Usage.CLIENT, "online at least every ten days"),
        LeafProfile("short", timedelta(hours=24), timedelta(hours=1), Usage.CLIENT, "always on"),
        LeafProfile("sleepy", timedelta(days=180), timedelta(hours=1), Usage.CLIENT, "wakes up every month or two"),
    )
}

RENEW_BELOW = 1 / 3
"""The share of its lifetime that is left when a certificate is due for renewal."""


def device_profile(name: str) -> LeafProfile:
    """The device profile of that name. Raises `UsageError` with code `profile-unknown`, naming the ones there are."""
    try:
        return DEVICE_PROFILES[name]
    except KeyError:
        raise UsageError(
            f"profile {name!r} does not exist", mend=f"use one of: {', '.join(DEVICE_PROFILES)}", code="profile-unknown"
        ) from None
