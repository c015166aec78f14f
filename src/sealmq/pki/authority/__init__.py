"""The CA of a data folder: its roots, its issuing CAs, and the certificates they issue by the house's profiles.

It knows nothing of which devices exist or of who asked; the registry remembers, `operations` decides, and `rotation`
says when one CA follows another.

```
<fleet> Root 1        ca/root.pem     ca/root.key      10 years, path length 2
├── <fleet> Devices 1 ca/devices.pem  ca/devices.key   1 year, clientAuth, may sign no host names
│   └── device certificates
└── <fleet> Servers 1 ca/servers.pem  ca/servers.key   1 year, serverAuth
    └── server/cert.pem, server/key.pem                the broker's own
```

Successors lie beside them as `root-2.pem`, `devices-2.pem` and so on; `ca/generations.json` says what each is for.
"""

from sealmq.pki.authority.ca import Authority
from sealmq.pki.authority.files import Member
from sealmq.pki.authority.record import Entry, Kind, Record, State

__all__ = ["Authority", "Entry", "Kind", "Member", "Record", "State"]
