"""Who may publish and subscribe where: reads the rule file and lays it out as the data plane's list.

It refuses to decide about a message: that is done in the data plane, where the first rule that matches wins and no
match means denied.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sealmq.config.settings import nearest
from sealmq.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ANONYMOUS = "anonymous"
GROUP, USER = "group:", "user:"
_KEYS = ["name", "effect", "who", "actions", "topics"]
_ACTIONS = ["publish", "subscribe"]
_EFFECTS = ["allow", "deny"]
_PLACEHOLDER = re.compile(r"\{[^{}/]*\}")
_MAX_FILTER_BYTES = 65_535


@dataclass(frozen=True)
class Rule:
    """One `[[rule]]`: an effect for some clients, actions and topic filters.

    `who` is a glob over device ids, `group:GLOB` over the groups of a device, `user:GLOB` over users with passwords, or
    `anonymous`.
    """

    name: str
    who: str
    actions: tuple[str, ...]
    topics: tuple[str, ...]
    effect: str = "allow"

    def for_engine(self) -> list[dict[str, object]]:
        """One entry per topic filter, in order, in the shape of `rules` of a `NodeConfig`."""
        return [
            {
                "name": self.name,
                "effect": self.effect,
                "who": self.who,
                "publish": "publish" in self.actions,
                "subscribe": "subscribe" in self.actions,
                "filter": topic,
            }
            for topic in self.topics
        ]


DEFAULT_RULES = (
    Rule("own topics", "*", ("publish", "subscribe"), ("devices/{id}/#",)),
    Rule("shared topics", "*", ("publish", "subscribe"), ("shared/#",)),
)


def load_rules(path: Path | None) -> tuple[Rule, ...]:
    """The rules of the TOML file at `path`, or the built-in ones when it is None.

    Raises `ConfigError` naming the file, the rule and what is wrong with it.
    """
    if path is None:
        return DEFAULT_RULES
    document = _parse(path)
    for key in document:
        if key != "rule":
            raise _bad(f"unknown key {key!r} in rule file {path}", "a rule file holds [[rule]] tables only")
    entries = document.get("rule", [])
    if not isinstance(entries, list):
        raise _bad(f"rule in {path} is one table where a list of them is wanted", "write [[rule]] with double brackets")
    return tuple(_rule(entry, f"rule {number} in {path}", path) for number, entry in enumerate(entries, start=1))


def for_engine(rules: Sequence[Rule]) -> list[dict[str, object]]:
    """All rules in the shape of `rules` of a `NodeConfig`; the order is kept, since the first match decides."""
    return [entry for rule in rules for entry in rule.for_engine()]


def check_filter(text: str) -> str:
    """What is wrong with a topic filter of a rule, empty when nothing is; `{id}`, `{client}`, `{group}` stand for text.

    MQTT 5.0 section 4.7: `#` only as the whole last level, `+` only as a whole level.
    """
    if not text:
        return "is empty"  # [MQTT-4.7.3-1]
    if "\0" in text:
        return "holds a null character"  # [MQTT-4.7.3-2]
    if len(text.encode()) > _MAX_FILTER_BYTES:
        return f"is longer than {_MAX_FILTER_BYTES} bytes"  # [MQTT-4.7.3-3]
    if text.startswith("$share/"):
        return "names a shared subscription; write the filter behind the group: it covers both"
    levels = text.split("/")
    for index, level in enumerate(levels):
        if "#" in level and (level != "#" or index != len(levels) - 1):
            return "has # elsewhere than as its whole last level"  # [MQTT-4.7.1-1]
        if "+" in level and level != "+":
            return "has + beside other text in one level"  # [MQTT-4.7.1-2]
    for placeholder in _PLACEHOLDER.findall(text):
        if placeholder not in ("{id}", "{client}", "{group}"):
            return f"has {placeholder}; {{id}} (device or user), {{client}} (client id) and {{group}} are replaced"
    if re.search(r"[{}]", _PLACEHOLDER.sub("", text)):
        return "has a brace without its partner"
    return ""


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _bad(
            f"rule file {path} does not exist", "check rules.file, or remove it to use the built-in rules"
        ) from None
    except UnicodeDecodeError as error:
        raise _bad(f"rule file {path} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _bad(f"rule file {path} cannot be read: {reason}", "check its type, owner and mode") from None
    except tomllib.TOMLDecodeError as error:
        raise _bad(
            f"rule file {path} is not TOML: {str(error)[:1].lower()}{str(error)[1:]}",
            'write [[rule]] and below it name, who, actions, topics; text stands in "quotes"',
        ) from None


def _rule(entry: object, place: str, path: Path) -> Rule:
    if not isinstance(entry, dict):
        raise _bad(f"{place} is not a table", "write [[rule]] and below it name, who, actions, topics")
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip():
        raise _bad(f"{place} has no name", 'add name = "…": denials are logged with it')
    place = f"rule {name!r} in {path}"
    for key in entry:
        if key not in _KEYS:
            guess = nearest(key, _KEYS)
            raise _bad(
                f"unknown key {key!r} in {place}",
                f"did you mean {guess}?" if guess else f"a rule takes {', '.join(_KEYS)}",
            )
    effect = entry.get("effect", "allow")
    if effect not in _EFFECTS:
        raise _bad(f"effect of {place} is {effect!r}", 'write "allow" or "deny"')
    who = _who(entry.get("who", "*"), place)
    actions = _words(entry, "actions", place, 'list "publish", "subscribe" or both')
    for action in actions:
        if action not in _ACTIONS:
            raise _bad(f"actions of {place} has {action!r}", 'list "publish", "subscribe" or both')
    topics = _words(entry, "topics", place, 'list topic filters, such as "devices/{id}/#"')
    for topic in topics:
        if fault := check_filter(topic):
            raise _bad(f"topic filter {topic!r} of {place} {fault}", "see MQTT 5.0 section 4.7 for the wildcards")
        if who == ANONYMOUS and "{id}" in topic:
            raise _bad(
                f"topic filter {topic!r} of {place} has {{id}}, and a client without certificate has no device id",
                "use {client} or a fixed topic",
            )
        if "{group}" in topic and (who == ANONYMOUS or who.startswith(USER)):
            raise _bad(
                f"topic filter {topic!r} of {place} has {{group}}, and only devices are in groups",
                'use {id} or a fixed topic, or who = "group:*"',
            )
    return Rule(name, who, actions, topics, effect)


def _who(who: object, place: str) -> str:
    if isinstance(who, str):
        prefix = next((prefix for prefix in (GROUP, USER) if who.startswith(prefix)), "")
        if re.fullmatch(r"[A-Za-z0-9_.@ *?-]{1,64}", who.removeprefix(prefix)):
            return who
    raise _bad(
        f"who of {place} is {who!r}",
        'write a device id or a pattern such as "gateway-*"; "group:NAME", "user:NAME" or "anonymous"',
    )


def _words(entry: dict[str, Any], key: str, place: str, mend: str) -> tuple[str, ...]:
    value = entry.get(key)
    if isinstance(value, str):
        raise _bad(f"{key} of {place} is one string", f'write {key} = ["{value}"]')
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        fault = "missing" if value is None else "empty" if value == [] else "not a list of strings"
        raise _bad(f"{key} of {place} is {fault}", mend)
    return tuple(value)


def _bad(message: str, mend: str) -> ConfigError:
    return ConfigError(message, mend=mend, code="rule-invalid")
