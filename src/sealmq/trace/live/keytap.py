"""The key log of a context, kept in memory: OpenSSL writes it to a file, and here that file has no name on any disk.

It refuses to know what the lines are for.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

_PART = 1 << 16  # bytes read at once


class KeyTap:
    """Collects what `context` logs until `close`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        """Set the key log of `context`, from now on."""
        self._read_to = 0
        self._rest = b""
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("sealmq-trace", os.MFD_CLOEXEC)
            # OpenSSL opens the file by name, so the descriptor is reached through the process's own
            context.keylog_filename = f"/proc/self/fd/{self._descriptor}"
        else:
            self._descriptor, name = tempfile.mkstemp(prefix="sealmq-trace-")  # mode 0600
            context.keylog_filename = name
            Path(name).unlink()

    def fresh(self) -> list[bytes]:
        """The lines logged since the last call, without comments."""
        while part := os.pread(self._descriptor, _PART, self._read_to):
            self._read_to += len(part)
            self._rest += part
        *lines, self._rest = self._rest.split(b"\n")
        return [line for line in lines if line and not line.startswith(b"#")]

    def close(self) -> None:
        """Forget it all."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
