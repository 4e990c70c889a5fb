"""Standard output and error that the work of a verb outlasts: nobody has to read what a training says."""

import io
import os
import sys
from typing import Any


def open_what_is_closed() -> None:
    """Where the program was started without one of its three streams (`>&-`), what goes there goes nowhere.

    Else the next file that is opened would take the stream's number, and be written into by whatever speaks to it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - it stays open


def outlast_readers() -> None:
    """From here on, output that cannot be written any more is no error: its reader has gone (`| head`, a log whose disk
    is full), and that is said on standard error, where it is the other one."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            stream.flush()
            setattr(sys, name, outlasting(stream, name))


def outlasting(stream: io.TextIOWrapper, name: str) -> io.TextIOWrapper:
    """A stream to the same file as `stream`, with its encoding, that goes nowhere once writing fails."""
    raw = _Outlasting(stream.fileno(), name)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n" if os.linesep == "\n" else None,
        line_buffering=stream.line_buffering or name == "stderr",
        write_through=stream.write_through,
    )


class _Outlasting(io.FileIO):
    """The number of a file, which another one takes over when it cannot be written."""

    def __init__(self, number: int, stream: str) -> None:
        super().__init__(number, "w", closefd=False)
        self.stream = stream

    def write(self, data: Any) -> int:
        try:
            written: Any = super().write(data)  # None where a pipe has no room just now
            return written
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if self.stream == "stdout":
                why = error.strerror or str(error)
                print(f"note: standard output cannot be written ({why}); the work goes on", file=sys.stderr, flush=True)
            return len(data)
