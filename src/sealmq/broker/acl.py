"""Which rule decides about a topic, and why: asked of the very rules that the data plane compiles.

It refuses to know the registry and who asks; groups are given.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sealmq.broker.nodeconfig import authorisation, load_rules
from sealmq.enginefaults import from_engine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sealmq.config.settings import Settings
    from sealmq.datafolder import DataFolder

_NO_TLS = {"certificate_chain_pem": "", "private_key_pem": "", "client_ca_pem": ""}


def explain(
    settings: Settings,
    folder: DataFolder,
    *,
    identity: str | None,
    client_id: str,
    action: str,
    topic: str,
    groups: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """`allowed`, `rule` (its name, None when none decides) and `why` (a sentence) for `action` on `topic`.

    `identity` is a device id, `user:NAME`, or None for a client without either; `action` is `publish` (on a topic
    name) or `subscribe` (to a topic filter). Raises `ConfigError` for a rule file or a topic that is malformed.
    """
    from sealmq import _engine

    rules = authorisation(settings, load_rules(settings, folder), groups=groups)
    config = {"listeners": [], "tls": _NO_TLS, "fleet": folder.fleet, **rules}
    try:
        found: dict[str, Any] = json.loads(_engine.explain_rule(json.dumps(config), identity, client_id, action, topic))
    except _engine.EngineError as error:
        raise from_engine(*error.args) from None
    return found
