"""Owns the seeds of the fuzz targets: the packets of tests/vectors and a few openings, as each target wants its input.

Refuses to know what a target does with them. It writes into the folder it is given and overwrites nothing else there.

usage: scripts/fuzz_corpus.py FOLDER
"""

import hashlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

REQUEST = (
    b"GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
)
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)
# Frames of RFC 6455 section 5.7: bare, masked, in two parts, ping, close.
FRAMES = ("820548656c6c6f", "828537fa213d7f9f4d5158", "020348656c80026c6f", "898537fa213d7f9f4d5158", "880203e8")


def vectors() -> Iterator[tuple[bool, bytes]]:
    """Every packet of tests/vectors: whether its version is 5.0, and its bytes."""
    for path in sorted((ROOT / "tests" / "vectors").glob("*.toml")):
        for vector in tomllib.loads(path.read_text(encoding="utf-8")).get("vector", []):
            lines = (line.split("#")[0] for line in vector["hex"].splitlines())
            yield vector["version"] == "5.0", bytes.fromhex(" ".join(lines))


def hellos() -> Iterator[bytes]:
    """The ClientHellos that were captured for the tests of the parser."""
    source = (ROOT / "crates" / "node" / "src" / "hello" / "tests.rs").read_text(encoding="utf-8")
    for hex_text in re.findall(r'&str = "([0-9a-f]{64,})"', source):
        yield bytes.fromhex(hex_text)


def seeds() -> Iterator[tuple[str, bytes]]:
    """Target and input."""
    stream = bytearray()
    for is_v5, packet in vectors():
        yield "decode", bytes([0xFF if is_v5 else 0xFE]) + packet
        yield "roundtrip", packet
        yield "client", bytes([is_v5, 0]) + packet + len(packet).to_bytes(2, "little")
        yield "engine", bytes([is_v5, 2, 0]) + packet + len(packet).to_bytes(2, "little")
        if len(stream) < 2000:
            stream += packet
    for hello in hellos():
        yield "hello", b"\xff" + hello
    for hex_text in FRAMES:
        for role in (0xFE, 0xFF):
            yield "websocket", bytes([role]) + bytes.fromhex(hex_text)
    yield "websocket", b"\xfe" + bytes(stream)
    yield "http", b"\xff" + REQUEST
    yield "http", b"\xff" + ANSWER


def main(folder: str) -> int:
    """Write the seeds below `folder`, one folder for each target."""
    count = 0
    for target, data in seeds():
        place = Path(folder) / target
        place.mkdir(parents=True, exist_ok=True)
        (place / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        count += 1
    print(f"{count} seeds in {folder}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: scripts/fuzz_corpus.py FOLDER")
    sys.exit(main(sys.argv[1]))
