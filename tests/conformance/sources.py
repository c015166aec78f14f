"""Owns where the foreign suites come from: Debian's source of mosquitto through apt, and a Go module through go.

Refuses to keep a copy in the repository: what is fetched lies in a cache folder, and both tools verify it themselves.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

MOSQUITTO = "2.0.21"
_DEBIAN = "trixie"
_MIRROR = "http://deb.debian.org/debian"  # apt verifies signatures; http is its own custom
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PAHO_GO = ("github.com/eclipse/paho.mqtt.golang", "v1.5.1")
PATIENCE = 300  # seconds


def mosquitto(cache: Path) -> Path:
    """The unpacked source of mosquitto, fetched when it is not there.

    Raises SystemExit with a mend where apt cannot get it.
    """
    source = cache / f"mosquitto-{MOSQUITTO}"
    if not (source / "test" / "broker").is_dir():
        if shutil.which("apt-get") is None or not _KEYRING.exists():
            raise SystemExit(
                "error: no apt here that knows Debian's keys\n"
                f"mend: unpack the source of mosquitto {MOSQUITTO} as {source}"
            )
        _fetch(cache)
        for archive in cache.glob(f"mosquitto_{MOSQUITTO}*.orig.tar.*"):
            with tarfile.open(archive) as packed:
                packed.extractall(cache, filter="data")
    if not (source / "test" / "broker").is_dir():
        raise SystemExit(
            f"error: Debian {_DEBIAN} no longer has mosquitto {MOSQUITTO}\nmend: unpack its source as {source}"
        )
    return source


def _fetch(cache: Path) -> None:
    lists = cache / "apt"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    sources = cache / "debian.list"
    sources.write_text(f"deb-src [signed-by={_KEYRING}] {_MIRROR} {_DEBIAN} main\n")
    own = [f"-oDir::Etc::SourceList={sources}", "-oDir::Etc::SourceParts=/dev/null", f"-oDir::State::Lists={lists}"]
    for words in (["update"], ["source", "--download-only", "mosquitto"]):
        subprocess.run(
            ["apt-get", "-qq", "-oAPT::Sandbox::User=root", *own, *words], cwd=cache, check=True, timeout=PATIENCE
        )


def paho_go(cache: Path) -> Path:
    """A folder with a copy of the Go client's tests, ready for `go test`; the modules it needs are in Go's cache."""
    name, version = PAHO_GO
    module = cache / f"paho.mqtt.golang-{version}"
    if not module.is_dir():
        if shutil.which("go") is None:
            raise SystemExit("error: no go here, which runs one of the suites\nmend: apt-get install golang-go")
        told = subprocess.run(
            ["go", "mod", "download", "-json", f"{name}@{version}"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        ).stdout
        found = told.partition('"Dir": "')[2].partition('"')[0]
        shutil.copytree(found, module, copy_function=shutil.copyfile)
        for folder in (module, *(entry for entry in module.rglob("*") if entry.is_dir())):
            folder.chmod(0o755)  # Go's cache is read-only
    return module
