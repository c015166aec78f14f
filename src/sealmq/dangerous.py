"""What tests need and nothing else should have: a client that believes any server, and one without TLS.

It refuses to be reached by an argument of anything: whoever switches protection off names this module.
"""

from __future__ import annotations

from dataclasses import replace

from sealmq.client.identity import Identity

__all__ = ["plaintext", "unverified"]


def unverified(identity: Identity | None = None) -> Identity:
    """An identity that believes every server: whoever is in between reads and changes everything.

    To test servers, as `openssl s_client` does. The client's own certificate is shown to whoever asks for it.
    """
    return _without(identity, "unverified")


def plaintext(identity: Identity | None = None) -> Identity:
    """An identity that may be used with `mqtt://`: whoever listens on the way reads everything, passwords too."""
    return _without(identity, "plaintext")


def _without(identity: Identity | None, danger: str) -> Identity:
    known = identity or Identity()
    changed = replace(known)
    object.__setattr__(changed, "dangers", known.dangers | {danger})
    return changed
