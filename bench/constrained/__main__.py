"""Owns the table of docs/constrained.md: what one connection costs a small device, by TLS stack and by kind of secret.

Refuses to judge: it prints what came out. Bytes and round trips are exact but for a few of a signature's; the heap is
that of the libraries as Debian builds them.

usage: make constrained [BENCH_ARGS="--rounds 5 --json"]
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench import constrained

from sealmq.testing import EphemeralBroker

SUITES = {  # of TLS 1.2, in each library's words: with forward secrecy, and without
    "mbedtls": ("TLS-ECDHE-PSK-WITH-CHACHA20-POLY1305-SHA256", "TLS-PSK-WITH-AES-128-CCM-8"),
    "wolfssl": ("ECDHE-PSK-CHACHA20-POLY1305", "PSK-CHACHA20-POLY1305"),
    "gnutls": (":-KX-ALL:+ECDHE-PSK:-CIPHER-ALL:+CHACHA20-POLY1305", ":-KX-ALL:+PSK:-CIPHER-ALL:+AES-128-CCM-8"),
}
NAMES = {"mbedtls": "mbedTLS", "wolfssl": "wolfSSL", "gnutls": "GnuTLS"}
SMALL = 1024
COLUMNS = ("stack", "TLS", "secret", "out", "in", "round trips", "records", "in all", "largest", "heap KiB")
Row = tuple[str | int, ...]


class Case(NamedTuple):
    """One line of the table: the client's options, and which of its connections counts."""

    stack: str
    version: str
    secret: str
    options: dict[str, Any]
    is_psk: bool = False


def cases() -> Iterator[Case]:
    for stack, (ecdhe, plain) in SUITES.items():
        yield Case(stack, "1.2", "certificates", {})
        yield Case(stack, "1.2", "certificates, resumed", {"again": 1})
        yield Case(stack, "1.2", f"certificates, records of {SMALL}", {"fragment": SMALL})
        yield Case(stack, "1.2", "ECDHE and key", {"suite": ecdhe}, is_psk=True)
        yield Case(stack, "1.2", "key alone", {"suite": plain}, is_psk=True)
        if stack == "gnutls":
            yield Case(stack, "1.3", "certificates", {})
            yield Case(stack, "1.3", "certificates, resumed", {"again": 1})
            yield Case(stack, "1.3", f"certificates, records of {SMALL}", {"fragment": SMALL})
        if stack != "mbedtls":
            yield Case(stack, "1.3", "ECDHE and key", {}, is_psk=True)


def measure(broker: EphemeralBroker, program: Path, case: Case, *, rounds: int) -> Row:
    """The median of several runs."""
    if case.is_psk:
        who: dict[str, Any] = {"psk": broker.device_psk("small")}
        port, device = broker.port_of("psk"), "small"
    else:
        files = broker.device("sensor")
        who = {"ca": files.ca, "cert": files.cert, "key": files.key}
        port, device = broker.port, "sensor"
    found = []
    for _ in range(rounds):
        done = constrained.run(
            program, port=port, device=device, version=case.version, payload=2000, **who, **case.options
        )
        if done.fault:
            raise SystemExit(f"{case.stack}, {case.secret}: {done.fault}")
        found.append(done.connections[-1])

    def median(of: str, name: str) -> int:
        return int(statistics.median(one[of][name] for one in found))

    sent, received = median("handshake", "sent"), median("handshake", "received")
    records = f"{median('handshake', 'records_sent')} + {median('handshake', 'records_received')}"
    in_all = median("session", "sent") + median("session", "received")
    heap = round(statistics.median(one["heap_peak"] for one in found) / 1024)
    trips, largest = median("handshake", "round_trips"), median("session", "largest_record")
    return (NAMES[case.stack], case.version, case.secret, sent, received, trips, records, in_all, largest, heap)


def main() -> None:
    parser = argparse.ArgumentParser(description="what one connection costs a small device")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EphemeralBroker(psk=True) as broker:
        programs = constrained.build(Path(folder))
        rows = [measure(broker, programs[case.stack], case, rounds=chosen.rounds) for case in cases()]
    if chosen.json:
        print(json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in rows], indent=2))
        return
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * 3 + "|--:" * (len(COLUMNS) - 3) + "|")
    for row in rows:
        print("| " + " | ".join(f"{value:,}" if isinstance(value, int) else value for value in row) + " |")


if __name__ == "__main__":
    main()
