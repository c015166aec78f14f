"""A certificate for a public name by ACME (RFC 8555), with ACME Renewal Information (RFC 9773).

It knows nothing of when a certificate is due, of files, and of what is done with it.

| module | owns |
|---|---|
| `jws` | requests that are signed with the account's key |
| `server` | talking to one ACME server: its directory, nonces, problems |
| `order` | one order from the names to the chain |
| `challenges` | showing the control of a name: http-01, dns-01 |
| `renewalinfo` | when the server suggests to renew |
"""

from sealmq.pki.acme.challenges import Challenge, DnsHook, HttpListener
from sealmq.pki.acme.order import Obtained, obtain
from sealmq.pki.acme.renewalinfo import Window, suggested_window
from sealmq.pki.acme.server import AcmeServer

__all__ = [
    "AcmeServer",
    "Challenge",
    "DnsHook",
    "HttpListener",
    "Obtained",
    "Window",
    "obtain",
    "suggested_window",
]
