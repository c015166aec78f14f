"""The data folder: where it is, what lies where in it, which format it has, and who owns it at the moment.

It knows nothing of what the files mean; the CA, the registry and the configuration read and write their own.

One process owns the folder at a time (`lock`): a running broker for as long as it runs, a command for as long as it
changes something. A command waits for another command, and reaches a broker through `control.sock` instead.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sealmq.errors import DataFolderError, Environment
from sealmq.secretfiles import ensure_private_dir, raise_environment, write_public

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 1
ENVIRONMENT_VARIABLE = "SEALMQ_DATA"
DEFAULT_NAME = "sealmq-data"

_MAKE_ONE = "run `sealmq up` or `sealmq device add ID` to make one, or name another with --data"
_COMMAND_WAIT = (
    10.0  # seconds that an owner waits for a command that is changing the folder; commands take milliseconds
)
_PROBE_WAIT = 0.1  # seconds during which a lock may be held by someone who only looks at it
_PAUSE = 0.01  # seconds


class Owner(enum.Enum):
    """Who takes the folder: a broker keeps it, a command gives it back in a moment."""

    BROKER = "broker"
    COMMAND = "command"


class DataFolder:
    """An existing data folder of a known format, mode 0700, owned by this user. Made by `open` or `create_or_open`.

    `path` is absolute; the other paths lie in it and need not exist: `ca_dir`, `server_dir`, `devices_dir`,
    `registry_path`, `store_path`, `control_path`, `lock_path`, `config_path`, `rules_path`. `fleet` is the id of the
    fleet, the host part of `spiffe://<fleet>/device/<id>`, made once with the folder.
    """

    def __init__(self, path: Path, *, fleet: str) -> None:
        """For `open` and `create_or_open` only: nothing is checked here."""
        self.path = path
        self.fleet = fleet
        self.ca_dir = path / "ca"
        self.server_dir = path / "server"
        self.devices_dir = path / "devices"
        self.registry_path = path / "registry.sqlite3"
        self.store_path = path / "store.sqlite3"
        self.control_path = path / "control.sock"
        self.lock_path = path / "lock"
        self.config_path = path / "sealmq.toml"
        self.rules_path = path / "rules.toml"

    def __repr__(self) -> str:
        return f"DataFolder({str(self.path)!r})"

    @staticmethod
    def resolve(option: Path | None) -> Path:
        """Where the data folder is: `option`, else `$SEALMQ_DATA`, else `./sealmq-data`. Nothing is read or made."""
        if option is not None:
            return Path(option).expanduser()
        return Path(os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_NAME).expanduser()

    @classmethod
    def open(cls, path: Path) -> DataFolder:
        """The data folder at `path`.

        Raises `DataFolderError` with code `data-folder-missing`, `data-folder-newer`, `data-folder-foreign` or
        `data-folder-damaged`; `Environment` when the system forbids, another user owns it or others can write to it.
        """
        path = Path(path).absolute()
        format_text = _read_text(path / "format")
        if format_text is None:
            if path.is_dir() and _foreign_names(path):
                raise _foreign(path)
            raise DataFolderError(f"data folder {path} does not exist", mend=_MAKE_ONE, code="data-folder-missing")
        ensure_private_dir(path)
        _check_format(path, format_text)
        fleet = (_read_text(path / "fleet") or "").strip()
        if not fleet:
            raise DataFolderError(
                f"data folder {path} has lost its file `fleet`",
                mend="restore the folder from a backup: certificates of its devices carry that name",
                code="data-folder-damaged",
            )
        return cls(path, fleet=fleet)

    @classmethod
    def create_or_open(cls, path: Path) -> DataFolder:
        """Like `open`, but a missing or empty folder, or one whose making was cut short, is made whole first.

        A folder that holds anything else is refused (code `data-folder-foreign`), so that a slip of `--data` neither
        changes the mode of a home directory nor scatters files in it.
        """
        path = Path(path).absolute()
        if _read_text(path / "format") is None:
            if path.is_dir() and _foreign_names(path):
                raise _foreign(path)
            ensure_private_dir(path)
            with _making(path):
                if not (_read_text(path / "fleet") or "").strip():
                    write_public(path / "fleet", f"fleet-{secrets.token_hex(3)}\n".encode())
                if _read_text(path / "format") is None:  # last: with it the folder counts as made
                    write_public(path / "format", f"{FORMAT}\n".encode())
        return cls.open(path)

    @contextlib.contextmanager
    def lock(self, *, owner: Owner = Owner.BROKER) -> Iterator[None]:
        """Own the folder until the block ends. The kernel frees the lock when the process dies, however it dies.

        Waits a few seconds while a command has the folder; raises `Environment` with code `data-folder-locked`, naming
        the pid, when a broker has it or the command does not end.
        """
        try:
            descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise_environment(error, self.lock_path, doing="open")
        try:
            self._acquire(descriptor)
            # Plain text for people and `locked_by`; the lock itself is the kernel's. A full disk must not keep a broker
            # from its folder, so a note that cannot be written is left out.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()} {owner.value}\n".encode(), 0)
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def locked_by(self) -> int | None:
        """The pid of the broker that owns the folder now, or None. A command that is passing through does not count."""
        try:
            descriptor = os.open(self.lock_path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise_environment(error, self.lock_path, doing="read")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, owner = _holder(descriptor)
            return pid if owner is Owner.BROKER else None
        finally:
            os.close(descriptor)
        return None

    def _acquire(self, descriptor: int) -> None:
        started = time.monotonic()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid, owner = _holder(descriptor)
                patience = _PROBE_WAIT if owner is Owner.BROKER else _COMMAND_WAIT
                if time.monotonic() - started > patience:
                    raise Environment(
                        f"data folder {self.path} is in use by process {pid or 'unknown'}",
                        mend="stop that broker, or choose another folder with --data",
                        code="data-folder-locked",
                    ) from None
                time.sleep(_PAUSE)
            else:
                return


# What a folder may hold before it is made: what a user puts there, and what a first start that was cut short left.
_OWN_NAMES = {"fleet", "lock", "lost+found", "sealmq.toml", "rules.toml"}


def _foreign_names(path: Path) -> list[str]:
    try:
        names = [entry.name for entry in path.iterdir()]
    except OSError as error:
        raise_environment(error, path, doing="read")
    return [name for name in names if name not in _OWN_NAMES and not name.endswith(".partial")]


def _foreign(path: Path) -> DataFolderError:
    return DataFolderError(
        f"folder {path} is not a data folder of sealmq: it holds other things and no file `format`",
        mend="name an empty or a new folder with --data",
        code="data-folder-foreign",
    )


def _check_format(path: Path, text: str) -> None:
    try:
        found = int(text)
    except ValueError:
        raise DataFolderError(
            f"data folder {path} has a damaged file `format`: it must hold one number",
            mend="restore the folder from a backup",
            code="data-folder-damaged",
        ) from None
    if found > FORMAT:
        raise DataFolderError(
            f"data folder {path} was written by a newer sealmq (format {found}, this one knows {FORMAT})",
            mend="run the newer sealmq, or name another folder with --data",
            code="data-folder-newer",
        )


def _read_text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise_environment(error, path, doing="read")


def _holder(descriptor: int) -> tuple[int | None, Owner | None]:
    words = os.pread(descriptor, 64, 0).decode(errors="replace").split()
    try:
        return int(words[0]), Owner(words[1])
    except (IndexError, ValueError):
        return None, None


@contextlib.contextmanager
def _making(path: Path) -> Iterator[None]:
    """Two first starts at once make one fleet: the folder itself is locked while it is being made."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
