"""The page docs/reference/causes.md, made from the tables: `python -m sealmq.trace.causes.reference` prints it.

It refuses to know anything that is not in the tables.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from sealmq.trace.causes.refusals import BY_STAGE, REFUSALS
from sealmq.trace.causes.table import CAUSES, OF_CLIENT

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEAD = """\
# Causes

<!-- made from src/sealmq/trace/causes by `python -m sealmq.trace.causes.reference`; do not edit by hand -->

Why a connection was refused or failed, by a slug that never changes its meaning. `sealmq trace` finds causes as a
client, the broker as a server: in its log, in `sealmq log refusals`, in `sealmq trace --next`. One cause has one slug
on both sides. `certificate-…`, `revoked` and `untrusted-issuer` are about the certificate that whoever stopped was
shown: `stopped_by` is `here` in a trace for the server's, `server` for the client's; in a broker's record it is the
client's.
Words in *italics* are filled in.
"""

_TRACE = """\
## What a trace finds

Of the network, of the server, and of what the server says.
"""

_CLIENT = """\
## What a server found in this client's certificate

Told by an alert, which in TLS 1.3 comes after this side has finished its handshake. Where one alert means several
things, what the certificate itself shows decides.
"""

_BROKER = """\
## What stands in the broker's records

Marked with • are those that a trace of the same connection names as well; the others only the broker can see.
"""


def page() -> str:
    """The whole page as Markdown."""
    parts = [_HEAD, _TRACE, _table((slug, cause.sentence, cause.mend) for slug, cause in CAUSES.items())]
    parts += [_CLIENT, _table((slug, cause.sentence, cause.mend) for slug, cause in OF_CLIENT.items()), _BROKER]
    shared = {*CAUSES, *OF_CLIENT}
    for stage, rows in BY_STAGE.items():
        table = _table((slug, row.sentence, row.mend, "•" if slug in shared else "") for slug, row in rows.items())
        parts.append(f"### Stage {stage}\n\n{table}")
    total = len({*CAUSES, *OF_CLIENT, *REFUSALS})
    return "\n".join([*parts, f"{total} causes in all.\n"])


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| cause | what happened | mend |", "|---|---|---|"]
    for slug, sentence, mend, *marks in rows:
        mark = f" {marks[0]}" if marks and marks[0] else ""
        lines.append(f"| `{slug}`{mark} | {_shown(sentence)} | {_shown(mend)} |")
    return "\n".join(lines) + "\n"


def _shown(text: str) -> str:
    escaped = text.replace("<", "&lt;").replace("|", "\\|")
    return re.sub(r"\{(\w*)[^}]*\}", lambda match: f"*{match[1].replace('_', ' ') or '…'}*", escaped)


if __name__ == "__main__":
    sys.stdout.write(page())
