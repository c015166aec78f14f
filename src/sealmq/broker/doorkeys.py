"""The TLS side of the HTTPS door: a context whose certificates and trust can be replaced while it listens.

It refuses to know HTTP and who a client is.

An `ssl.SSLContext` that listens can be given another certificate but can forget no CA. So each connection is handed
to the context in force when its ClientHello arrives (`sni_callback`), chosen by the name that it asks for (RFC 6066,
section 3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealmq.broker import soundness
from sealmq.tls.contexts import ClientCertificate, server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from sealmq.broker.certificates import Identity, Material


class DoorKeys:
    """`context` listens; `prepare` then `take` replace what it shows and trusts, for connections from then on."""

    def __init__(self, material: Material, trust: Callable[[ssl.SSLContext], None]) -> None:
        """`trust` lets each context ask for client certificates. Raises `ConfigError` as `server_context` does."""
        self._trust = trust
        self._chosen = self.prepare(material)
        self.context = self._context(material.server)
        self.context.sni_callback = self._choose

    def prepare(self, material: Material) -> dict[str | None, ssl.SSLContext]:
        """The contexts of a generation, by name; None stands for every other name. Raises `ConfigError`."""
        found: dict[str | None, ssl.SSLContext] = {}
        for identity in material.identities():
            context = self._context(identity)
            for name in (None, *soundness.names(soundness.leaf(identity))):
                found.setdefault(name, context)
        return found

    def take(self, prepared: dict[str | None, ssl.SSLContext]) -> None:
        """Use these from now on; open connections go on as they are."""
        self._chosen = prepared

    def _context(self, identity: Identity) -> ssl.SSLContext:
        context = server_context(
            certificate=identity.certificate_file,
            key=identity.key_file,
            client_certificate=ClientCertificate.NONE,
        )
        self._trust(context)
        return context

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        chosen = self._chosen
        asked = name.lower() if name else None
        parent = f"*.{asked.partition('.')[2]}" if asked else None
        connection.context = chosen.get(asked) or chosen.get(parent) or chosen[None]
