"""The options with which `pub`, `sub` and `bench` connect, spelled as in mosquitto's clients, and the connection.

It refuses to know what is done over it.
"""

import functools
import inspect
import secrets
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sealmq.cli import presharedkey
from sealmq.cli.properties import Given
from sealmq.errors import UsageError

if TYPE_CHECKING:
    from sealmq.cli.app import Globals
    from sealmq.client.connection import Connection
    from sealmq.client.identity import Identity
    from sealmq.client.message import Will
    from sealmq.client.opening import OpeningOptions, Version
    from sealmq.client.target import Target
    from sealmq.tls.policy import Version as TlsVersion
    from sealmq.tls.presharedkey import Psk

_VERSIONS: dict[str, "Version"] = {
    "5": "5.0",
    "5.0": "5.0",
    "mqttv5": "5.0",
    "311": "3.1.1",
    "3.1.1": "3.1.1",
    "mqttv311": "3.1.1",
}
_TLS_VERSIONS: dict[str, "TlsVersion"] = {"tlsv1.2": "1.2", "tlsv1.3": "1.3"}
_BROKEN = ("tlsv1", "tlsv1.0", "tlsv1.1")

URL = Annotated[
    str, typer.Argument(metavar="URL", help="mqtts://HOST[:8883], wss://HOST[:8084]/mqtt or mqtts+psk://HOST[:8884]")
]


def qos(text: str | int) -> int:
    """The value of `-q`. Raises `typer.BadParameter` for what is not 0, 1 or 2."""
    if str(text) not in ("0", "1", "2"):
        raise typer.BadParameter(f"{text!r} is not 0, 1 or 2")
    return int(text)


QOS = Annotated[int, typer.Option("-q", "--qos", metavar="0|1|2", parser=qos, help="At most, at least, exactly once.")]


@dataclass(frozen=True)
class Who:
    """The options that say who connects, and how; `device` is the value of `--as`."""

    device: Annotated[str | None, typer.Option("--as", metavar="ID", help="Act as this device of the data folder.")] = (
        None
    )
    client_id: Annotated[
        str | None, typer.Option("-i", "--id", metavar="ID", help="Client id.  [default: DEVICE:VERB-xxxx]")
    ] = None
    cafile: Annotated[Path | None, typer.Option(metavar="FILE", help="CA certificates to verify the broker with.")] = (
        None
    )
    capath: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder of them; or the one that device add wrote.")
    ] = None
    system_ca: Annotated[
        bool, typer.Option("--tls-use-os-certs", help="Trust the public CAs that this machine trusts.")
    ] = False
    cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate of the client; needs --key.")] = None
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key of the client.")] = None
    crl: Annotated[Path | None, typer.Option(metavar="FILE", help="Revocation lists for the broker's chain.")] = None
    tls_version: Annotated[
        str | None, typer.Option(metavar="tlsv1.2|tlsv1.3", help="Offer this version of TLS alone.")
    ] = None
    pin: Annotated[
        list[str] | None,
        typer.Option(metavar="SHA256", help="Public key that has to be in the chain; two at least (`sealmq pin`)."),
    ] = None
    psk_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Pre-shared key for mqtts+psk: psk.txt, one line identity:hexkey."),
    ] = None
    psk_identity: Annotated[
        str | None, typer.Option(metavar="ID", help="Whose key of that file; or with --psk, whose it is.")
    ] = None
    psk: Annotated[
        str | None, typer.Option(metavar="HEX", help="Pre-shared key; others on this machine see it here.")
    ] = None
    username: Annotated[str | None, typer.Option("-u", "--username", metavar="NAME", help="User name.")] = None
    password: Annotated[
        str | None, typer.Option("-P", "--pw", metavar="TEXT", help="Password; others on this machine see it here.")
    ] = None
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Password: the first line of this file.")
    ] = None
    keep_alive: Annotated[
        int, typer.Option("-k", "--keepalive", min=0, max=65_535, metavar="SECONDS", help="Keep alive.")
    ] = 60
    keep_session: Annotated[
        bool, typer.Option("-c", "--disable-clean-session", help="Take up the session of this client id again.")
    ] = False
    session_expiry: Annotated[
        int | None,
        typer.Option(
            "-x", "--session-expiry-interval", min=0, max=0xFFFFFFFF, metavar="SECONDS", help="Life of the session."
        ),
    ] = None
    will_topic: Annotated[str | None, typer.Option(metavar="TOPIC", help="Topic of the will.")] = None
    will_payload: Annotated[str | None, typer.Option(metavar="TEXT", help="Message of the will.")] = None
    will_qos: Annotated[int, typer.Option(metavar="0|1|2", parser=qos, help="QoS of the will.")] = 0
    will_retain: Annotated[bool, typer.Option("--will-retain", help="The will is retained.")] = False
    version: Annotated[str, typer.Option("-V", "--protocol-version", metavar="5|311", help="MQTT version.")] = "5"
    properties: Annotated[
        list[str] | None,
        typer.Option("-D", "--property", metavar="PACKET NAME VALUE", help="A property of MQTT 5; may repeat."),
    ] = None

    @property
    def gives_psk(self) -> bool:
        """Whether a pre-shared key is named."""
        return (self.psk_file, self.psk_identity, self.psk) != (None, None, None)

    @property
    def given(self) -> Given:
        """The properties of `-D`. Raises `UsageError`."""
        found = Given(self.properties or [])
        if found and self.mqtt != "5.0":
            raise UsageError("MQTT 3.1.1 has no properties", mend="leave -D out, or use -V 5")
        return found

    @property
    def mqtt(self) -> "Version":
        """The MQTT version. Raises `UsageError`."""
        if self.version not in _VERSIONS:
            raise UsageError(f"MQTT version {self.version!r} is not known", mend="-V takes 5 or 311")
        return _VERSIONS[self.version]

    @property
    def tls(self) -> "TlsVersion | None":
        """The version of TLS, None for the best that both sides have. Raises `UsageError`."""
        if self.tls_version is None or self.tls_version in _TLS_VERSIONS:
            return _TLS_VERSIONS.get(self.tls_version or "")
        broken = ": it is broken, and nobody may offer it (RFC 8996)" if self.tls_version in _BROKEN else ""
        raise UsageError(
            f"TLS version {self.tls_version!r} is not {'offered' if broken else 'known'}{broken}",
            mend="--tls-version takes tlsv1.2 or tlsv1.3; left out, it is the best that both sides have",
            code="tls-version",
        )


def connecting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, in the place of its parameter `who`, the options of `Who`."""
    own = inspect.signature(command)
    options = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(Who)
    ]
    names = [option.name for option in options]

    @functools.wraps(command)
    def run(**given: Any) -> None:  # noqa: ANN401
        who = Who(**{name: given.pop(name) for name in names})
        command(**given, who=who)

    others = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in own.parameters.values()
        if parameter.name != "who"
    ]
    run.__signature__ = own.replace(parameters=[*others, *options])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in (*others, *options)}
    return run


def connect(options: "Globals", url: str, who: Who, *, role: str) -> "Connection":
    """Connect for `role` (`pub` or `sub`). Raises `UsageError`, `NotSo` and what `Connection.open` raises."""
    from sealmq.client.connection import Connection

    target, identity = reach(options, url, who)
    return Connection.open(target, identity, **opening(who, identity, role=role))


def reach(options: "Globals", url: str, who: Who) -> "tuple[Target, Identity | Psk]":
    """Where to, and as whom. Raises `UsageError`, and `ConfigError` for files that cannot be read."""
    from sealmq.client.target import Target

    _ = who.mqtt, who.tls, who.given  # what makes no sense is told before files are read
    target = Target.parse(url)
    if target.is_psk or who.gives_psk:
        return target, presharedkey.of(options, target, who)
    if target.is_plaintext:
        _allow_plaintext(options, target)
    identity = _identity(options, target, who)
    return target, replace(identity, pins=tuple(who.pin)) if who.pin else identity


def opening(who: Who, identity: "Identity | Psk", *, role: str) -> "OpeningOptions":
    """The options of `Connection.open`."""
    from sealmq.tls.presharedkey import Psk

    is_proven = isinstance(identity, Psk) or identity.certificate is not None
    owner = who.device or identity.device or ("sealmq" if is_proven else "anonymous")
    if who.username is not None and not is_proven:
        owner = f"user:{who.username}"  # the names our broker knows them by
    own = who.given.connect()
    expiry = own.pop("session_expiry", who.session_expiry)
    return {
        "client_id": who.client_id if who.client_id is not None else f"{owner}:{role}-{secrets.token_hex(2)}",
        "version": who.mqtt,
        "tls_version": who.tls,
        "keep_alive": who.keep_alive,
        "clean_start": not who.keep_session,
        "session_expiry": expiry,
        "username": who.username,
        "password": _password(who),
        "will": _will(who),
        "user": tuple(own.pop("user", ())),
    }


def _will(who: Who) -> "Will | None":
    from sealmq.client.message import Will

    if who.will_topic is None:
        if who.will_payload is not None or who.will_retain:
            raise UsageError("will has no topic", mend="give --will-topic")
        return None
    properties, delay = who.given.will()
    payload = (who.will_payload or "").encode("utf-8", "surrogateescape")
    return Will(who.will_topic, payload, who.will_qos, who.will_retain, delay, properties)  # type: ignore[arg-type]


def _password(who: Who) -> str | None:
    if who.password_file is None:
        return who.password
    if who.password is not None:
        raise UsageError("password is given twice", mend="give one of -P and --password-file")
    try:
        return who.password_file.read_text("utf-8").split("\n", 1)[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = (getattr(error, "strerror", None) or "not text").lower()
        raise UsageError(f"file {who.password_file} cannot be read: {reason}", mend="check the path") from None


def _allow_plaintext(options: "Globals", target: "Target") -> None:
    from sealmq.config.settings import load

    if not load(options.data / "sealmq.toml").config.dangerous.plaintext:
        raise UsageError(
            f"URL {target} has no TLS: whoever can listen on the way reads and changes everything",
            mend=f"use mqtts://, or set plaintext and anonymous under [dangerous] of {options.data}/sealmq.toml",
            code="plaintext-refused",
        )


def _identity(options: "Globals", target: "Target", who: Who) -> "Identity":
    from sealmq.client.identity import Identity

    if who.device is not None:
        if who.cert is not None or who.key is not None:
            raise UsageError("--as and --cert or --key name two identities", mend="give one of them")
        from sealmq.datafolder import DataFolder
        from sealmq.pki.operations import device_files

        files = device_files(DataFolder.open(options.data), who.device)
        return Identity.read(ca=who.cafile or files.ca, certificate=files.cert, key=files.key, crl=who.crl)
    if target.is_plaintext:
        from sealmq import dangerous

        return dangerous.plaintext()
    if [who.cafile, who.capath, who.system_ca or None].count(None) < 2:
        raise UsageError("CAs are named in two ways", mend="give one of --cafile, --capath and --tls-use-os-certs")
    if who.system_ca:
        return Identity.system(certificate=who.cert, key=who.key)
    if who.capath is not None and (who.capath / "cert.pem").exists() and who.cert is None:
        return Identity.bundle(who.capath)
    anchors = who.cafile or who.capath
    if anchors is None:
        raise UsageError(
            "no CA is named to verify the broker with",
            mend="give --as ID for a device of the data folder, or --cafile with --cert and --key",
        )
    return Identity.read(ca=anchors, certificate=who.cert, key=who.key, crl=who.crl)
