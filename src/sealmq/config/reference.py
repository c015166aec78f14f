"""The page docs/reference/config.md, made from the schema: `python -m sealmq.config.reference` prints it.

It refuses to know anything that is not in the schema.
"""

from __future__ import annotations

import sys

from sealmq.config import schema
from sealmq.config.settings import toml_value

_HEAD = """\
# Configuration

<!-- made from src/sealmq/config/schema.py by `python -m sealmq.config.reference`; do not edit by hand -->

One TOML file, `sealmq.toml` in the data folder or the one given with `--config FILE`. Nothing needs to be in it: every
setting has a default. What counts, strongest first: the command line, the environment (`SEALMQ_<TABLE>_<KEY>`, lists
separated by commas; never for `[dangerous]`), the file, the default. `sealmq config explain` prints the settings in
force and where each came from. An unknown table or key is an error, so a typo cannot switch anything off.
"""

_RULES = """\
## The rule file

`rules.toml` in the data folder, or the file that `rules.file` names. The first rule that matches decides; when none
matches, the answer is no. Without a file these rules hold:

```toml
[[rule]]
name = "own topics"
who = "*"                          # a glob over device ids
actions = ["publish", "subscribe"]
topics = ["devices/{id}/#"]        # {id} is the device id, {client} the client id

[[rule]]
name = "shared topics"
who = "*"
actions = ["publish", "subscribe"]
topics = ["shared/#"]
```

`effect = "deny"` makes a rule an exception to those below it; `effect` is `"allow"` when it is not written.

| `who` | whom it is about |
|---|---|
| `"sensor-7"`, `"gateway-*"`, `"*"` | devices, by id; `*` is any text, `?` one character |
| `"group:press-shop"`, `"group:*"` | devices in a group of that name (`sealmq device add ID --group NAME`) |
| `"user:anna"`, `"user:*"` | users with passwords (`sealmq user add NAME`); no other rule is about them |
| `"anonymous"` | clients without either, where `[dangerous]` lets them in |

`{id}` in a topic is the device id or the user's name, `{client}` the client id. `{group}` stands for each group of the
device that `who` covers. `sealmq acl explain ID publish|subscribe TOPIC` says which rule decides.
"""


def page() -> str:
    """The whole page as Markdown."""
    parts = [_HEAD]
    for name, model in schema.tables().items():
        parts.append(f"## [{name}]\n\n{(model.__doc__ or '').strip()}\n")
        lines = ["| setting | takes | default | meaning |", "|---|---|---|---|"]
        config = schema.Config()
        for key in schema.settings_in(name):
            default = toml_value(schema.value_of(config, name, key))
            cells = (f"`{key}`", schema.expected(name, key), f"`{default}`", schema.meaning_of(name, key))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join([*parts, _RULES])


if __name__ == "__main__":
    sys.stdout.write(page())
