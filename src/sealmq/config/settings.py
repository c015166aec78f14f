"""The settings in force: from the file, the environment and the command line, each with the place it came from.

It refuses to know what the settings do; only that they are whole and agree with each other.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sealmq.config import schema
from sealmq.config.address import BadValue
from sealmq.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT = "default"
COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Settings:
    """A checked `config`, the `origin` of each `table.key`, and the file read (None when there is none)."""

    config: schema.Config
    origins: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None

    def origin(self, name: str) -> str:
        """Where the value of `table.key` came from: `default`, `FILE:LINE`, `environment NAME` or `command line`."""
        return self.origins.get(name, DEFAULT)

    def path(self, name: str) -> Path | None:
        """The file that a setting names; relative to the configuration file when that is where it is written."""
        table, _, key = name.rpartition(".")
        return self.resolve(name, schema.value_of(self.config, table, key))

    def resolve(self, name: str, value: str) -> Path | None:
        """Like `path` for a `value` that stands in a list of tables at `name`."""
        if not value:
            return None
        written_in_file = self.file is not None and self.origin(name).startswith(str(self.file))
        base = self.file.parent if self.file is not None and written_in_file else Path()
        return base / Path(value).expanduser()

    def dangerous(self) -> list[tuple[str, str, str]]:
        """The `[dangerous]` settings in force: `(name, value as TOML, what it means)`."""
        found = []
        for key in schema.Dangerous.model_fields:
            value = getattr(self.config.dangerous, key)
            if value:
                found.append((key, toml_value(value), schema.meaning_of("dangerous", key)))
        return found


def load(
    default_file: Path,
    *,
    file: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read `file`, or `default_file` when that exists, and put the environment and `overrides` on top.

    `overrides` are values of the command line by setting: `{"listen.https": "off"}`.
    Raises `ConfigError` naming the key, the place and the mend.
    """
    path = file if file is not None else default_file
    values: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    text = _read(path, must_exist=file is not None)
    if text is not None:
        document = _parse(text, path)
        lines = _lines(text)
        _refuse_unknown(document, path, lines)
        for table, entries in document.items():
            values[table] = dict(entries)
        for table in schema.tables():
            names = [f"{table}.{key}" for key in _inside(document, table)]
            origins |= {name: _place(path, lines, name) for name in names if name not in schema.tables()}
    for name, value, variable in _from_environment(os.environ if environ is None else environ):
        _put(values, name, value)
        origins[name] = f"environment {variable}"
    for name, value in (overrides or {}).items():
        _put(values, name, value)
        origins[name] = COMMAND_LINE
    try:
        config = schema.Config.model_validate(values)
    except ValidationError as error:
        raise _explain(error, origins) from None
    settings = Settings(config, origins, path if text is not None else None)
    _agree(settings)
    return settings


def toml_value(value: object) -> str:
    """A value as it would stand in the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, schema.Table | dict):
        return "{" + ", ".join(f"{key} = {toml_value(inner)}" for key, inner in dict(value).items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def nearest(word: str, known: list[str]) -> str:
    """The known word that was probably meant, empty when none is near."""
    found = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return found[0] if found else ""


def _read(path: Path, *, must_exist: bool) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise ConfigError(
                f"configuration file {path} does not exist", mend="check the path after --config", code="config-missing"
            ) from None
        return None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"configuration file {path} is not UTF-8 text (byte {error.start})",
            mend="save it as UTF-8",
            code="config-syntax",
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"configuration file {path} cannot be read: {reason}",
            mend="check its type, owner and mode",
            code="config-unreadable",
        ) from None


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column \d+\)", str(error))
        where = f"{path}:{place[1]}" if place else str(path)
        sentence = re.sub(r"\s*\(at [^)]*\)", "", str(error)).rstrip(".")
        sentence = sentence[:1].lower() + sentence[1:]
        raise ConfigError(
            f"{where} is not TOML: {sentence}",
            mend='write `key = value` lines under a `[table]`; text stands in "quotes"',
            code="config-syntax",
        ) from None


def _lines(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[{1,2}\s*([\w.\-\"]+)\s*\]", line):
            table = header[1].replace('"', "")
            found.setdefault(table, number)
        elif entry := re.match(r"\s*([\w.\-\"]+(?:\s*\.\s*[\w\-\"]+)*)\s*=", line):
            key = re.sub(r"[\s\"]", "", entry[1])
            found.setdefault(f"{table}.{key}" if table else key, number)
    return found


def _place(path: Path, lines: Mapping[str, int], name: str) -> str:
    number = lines.get(name) or lines.get(name.rpartition(".")[0])
    return f"{path}:{number}" if number else str(path)


def _inside(document: dict[str, Any], table: str) -> dict[str, Any]:
    for name in table.split("."):
        document = document.get(name, {})
    return document


def _put(values: dict[str, dict[str, Any]], name: str, value: object) -> None:
    *tables, key = name.split(".")
    place: dict[str, Any] = values
    for table in tables:
        place[table] = dict(place.get(table, {}))  # a copy: what was read from the file stays as it was
        place = place[table]
    place[key] = value


def _refuse_unknown(document: dict[str, Any], path: Path, lines: Mapping[str, int], within: str = "") -> None:
    tables = schema.tables()
    for name, entries in document.items():
        table = within + name
        where = _place(path, lines, table)
        if table not in tables:
            homes = [f"[{name}]" for name, model in tables.items() if table in model.model_fields]
            if homes and not isinstance(entries, dict):
                raise ConfigError(
                    f"setting {table!r} in {where} stands outside its table",
                    mend=f"move it under {' or '.join(homes)}",
                    code="config-unknown-key",
                )
            guess = nearest(table, list(tables))
            mend = (
                f"did you mean [{guess}]?" if guess else "the tables are " + ", ".join(f"[{name}]" for name in tables)
            )
            raise ConfigError(f"unknown table [{table}] in {where}", mend=mend, code="config-unknown-key")
        if not isinstance(entries, dict):
            raise ConfigError(
                f"{table!r} in {where} is a table, not a value",
                mend=f"write a line [{table}] and the settings below it",
                code="config-bad-value",
            )
        fields = list(tables[table].model_fields)
        inner = {key: value for key, value in entries.items() if f"{table}.{key}" in tables}
        _refuse_unknown(inner, path, lines, f"{table}.")
        for key in entries:
            if key not in fields:
                where = _place(path, lines, f"{table}.{key}")
                raise ConfigError(
                    f"unknown setting {key!r} in [{table}] of {where}",
                    mend=_mend_for(key, table, fields),
                    code="config-unknown-key",
                )


def _mend_for(key: str, table: str, fields: list[str]) -> str:
    elsewhere = [name for name, model in schema.tables().items() if key in model.model_fields]
    if elsewhere:
        return f"{key} belongs under [{elsewhere[0]}]"
    guess = nearest(key, fields)
    return f"did you mean {guess}?" if guess else f"[{table}] takes {', '.join(fields)}"


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, object, str]]:
    """`SEALMQ_<TABLE>_<KEY>`; never for `[dangerous]`, whose only door is the file."""
    found: list[tuple[str, object, str]] = []
    known = {
        f"SEALMQ_{table}_{key}".replace(".", "_").upper(): (table, key)
        for table in schema.tables()
        for key in schema.settings_in(table)
    }
    for variable in sorted(environ):
        prefix = next((table for table in schema.tables() if variable.startswith(f"SEALMQ_{table.upper()}_")), None)
        if prefix is None:
            continue
        if prefix == "dangerous":
            raise ConfigError(
                f"environment variable {variable} would set a [dangerous] setting",
                mend="[dangerous] is taken from the configuration file only: write it there, where it is seen",
                code="config-dangerous-environment",
            )
        if variable not in known:
            guess = nearest(variable.lower(), [name.lower() for name in known]).upper()
            raise ConfigError(
                f"environment variable {variable} names no setting",
                mend=f"did you mean {guess}?" if guess else "see `sealmq config explain`",
                code="config-unknown-key",
            )
        table, key = known[variable]
        found.append((f"{table}.{key}", _from_text(environ[variable], table, key), variable))
    return found


def _from_text(text: str, table: str, key: str) -> object:
    annotation = schema.tables()[table].model_fields[key].annotation
    if annotation is int:
        return int(text) if re.fullmatch(r"-?\d{1,18}", text.strip()) else text
    if getattr(annotation, "__origin__", None) is list:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _explain(error: ValidationError, origins: Mapping[str, str]) -> ConfigError:
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    depth = 3 if ".".join(place[:2]) in schema.tables() else 2
    name = ".".join(place[:depth])
    where = origins.get(name, DEFAULT)
    value = toml_value(first["input"])
    shown = value if len(value) <= 80 else value[:77] + "..."
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, BadValue):
        return ConfigError(f"{name} = {shown} ({where}) {cause.message}", mend=cause.mend, code="config-bad-value")
    if len(place) < depth:
        return ConfigError(f"{name} ({where}) is not a table", code="config-bad-value")
    return ConfigError(
        f"{name} = {shown} ({where}) is not what it takes",
        mend=f"give {schema.expected('.'.join(place[: depth - 1]), place[depth - 1])}",
        code="config-bad-value",
    )


def _agree(settings: Settings) -> None:
    config = settings.config
    if not config.listen.mqtts and not config.listen.wss and not config.listen.psk:
        raise ConfigError(
            "listen.mqtts is empty, listen.wss and listen.psk are off: nobody could connect",
            mend='set listen.mqtts = ["127.0.0.1:8883"]',
            code="config-no-listener",
        )
    if bool(config.tls.certificate) != bool(config.tls.key):
        given, missing = ("certificate", "key") if config.tls.certificate else ("key", "certificate")
        raise ConfigError(
            f"tls.{given} ({settings.origin(f'tls.{given}')}) is set without tls.{missing}",
            mend=f"set tls.{missing} too, or neither to use the built-in CA",
            code="config-incomplete",
        )
    if config.tls.certificate and config.tls.extra_names:
        raise ConfigError(
            "tls.extra_names is for the built-in server certificate, and tls.certificate replaces that",
            mend="remove tls.extra_names, or have the names put into your own certificate",
            code="config-contradiction",
        )
    acme = config.tls.acme
    if acme.names and config.tls.certificate:
        raise ConfigError(
            "tls.acme.names and tls.certificate are both set: one takes the place of the other",
            mend="remove tls.certificate and tls.key; the built-in CA serves whoever asks for another name",
            code="config-contradiction",
        )
    if acme.names and acme.challenge == "dns-01" and not acme.dns_hook:
        raise ConfigError(
            "tls.acme.challenge is dns-01 without tls.acme.dns_hook",
            mend="name the command that adds and removes TXT records, or use http-01",
            code="config-incomplete",
        )
    if config.dangerous.plaintext and not config.dangerous.anonymous:
        raise ConfigError(
            f"dangerous.plaintext ({settings.origin('dangerous.plaintext')}) needs dangerous.anonymous = true: "
            "a client without TLS can show no certificate",
            mend='add `anonymous = true` under [dangerous] and rules with who = "anonymous", or remove plaintext',
            code="config-incomplete",
        )
