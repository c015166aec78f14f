"""What the data plane is started with: settings, rules and certificates laid out as one `NodeConfig`.

It refuses to start anything, and to say when the rule file is read; nothing is written.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sealmq.broker import bundle
from sealmq.config import rules as rule_file
from sealmq.pki import users

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sealmq.broker.certificates import Identity, Material
    from sealmq.config.rules import Rule
    from sealmq.config.settings import Settings
    from sealmq.datafolder import DataFolder


def listeners(settings: Settings) -> list[dict[str, str]]:
    """The data plane's listeners in the order of the `ready` lines."""
    listen, dangerous = settings.config.listen, settings.config.dangerous
    found = [{"kind": "mqtts", "address": address} for address in listen.mqtts]
    if listen.wss:
        found.append({"kind": "wss", "address": listen.wss})
    if listen.psk:
        found.append({"kind": "psk", "address": listen.psk})
    if dangerous.plaintext:
        found.append({"kind": "plaintext", "address": dangerous.plaintext})
    return found


def rules_path(settings: Settings, folder: DataFolder) -> Path | None:
    """The rule file in force: the one that `rules.file` names, else `rules.toml` in the data folder, else None."""
    named = settings.path("rules.file")
    if named is not None:
        return named
    return folder.rules_path if folder.rules_path.exists() else None


def load_rules(settings: Settings, folder: DataFolder) -> tuple[Rule, ...]:
    """The rules as that file has them now. Raises `ConfigError` when it is not whole."""
    return rule_file.load_rules(rules_path(settings, folder))


def compose(
    settings: Settings,
    folder: DataFolder,
    rules: Sequence[Rule],
    certificates: Material,
    version: str,
    *,
    ticket_keys: Sequence[Mapping[str, str]] = (),
    revoked: Mapping[str, Sequence[str]] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    psk: Sequence[Mapping[str, str]] = (),
) -> str:
    """The `NodeConfig` as JSON; `ticket_keys`, `revoked`, `groups` (device id to names) and `psk` as it has them.

    Raises `ConfigError` when the file of users is not whole.
    """
    config: dict[str, Any] = {
        "listeners": listeners(settings),
        "tls": {
            **_identity(certificates.server),
            "also": [_identity(one) for one in certificates.also],
            "client_ca_pem": certificates.client_ca_pem.decode("ascii"),
            "client_crls_pem": certificates.client_crls_pem.decode("ascii"),
            "ticket_keys": list(ticket_keys),
        },
        "fleet": folder.fleet,
        **authorisation(settings, rules, groups=groups or {}),
        "users": users.for_engine(folder),
        "psk": list(psk),
        "limits": settings.config.limits.model_dump(),
        "store": _store(settings, folder),
        "version": version,
        "revoked": {"devices": [], "certificates": []} if revoked is None else revoked,
    }
    return json.dumps(config)


def authorisation(settings: Settings, rules: Sequence[Rule], *, groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The part of a `NodeConfig` that decides who may do what: `rules`, `groups`, `dangerous`."""
    dangerous = settings.config.dangerous
    return {
        "rules": [*rule_file.for_engine(rules), bundle.RULE],
        "groups": {device: list(names) for device, names in groups.items()},
        "dangerous": {
            "anonymous": dangerous.anonymous,
            "any_client_id": dangerous.any_client_id,
            "allow_all": dangerous.allow_all,
        },
    }


def _store(settings: Settings, folder: DataFolder) -> dict[str, Any]:
    durability = settings.config.durability
    return {
        "path": str(folder.store_path),
        "fleet": folder.fleet,
        "durability": durability.default,
        "topics": [{"filter": topic.filter, "durability": topic.mode} for topic in durability.topics],
        "max_bytes": durability.max_bytes,
        "refuse_when_full": durability.when_queue_full == "refuse",
        "stop_when_failed": durability.when_failed == "stop",
    }


def _identity(identity: Identity) -> dict[str, str]:
    return {
        "certificate_chain_pem": identity.chain_pem.decode("ascii"),
        "private_key_pem": identity.key_pem.decode("ascii"),
    }
