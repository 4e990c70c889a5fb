"""`linnet chat`: talk to a run in the terminal."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from linnet.config import parse_flags
from linnet.console import say
from linnet.generate.sampling import Sampling

if TYPE_CHECKING:
    from linnet.generate.chat import Conversation

HELP = "/reset forgets what was said, /help shows this, /quit or Ctrl-D ends"


@dataclass(frozen=True, kw_only=True)
class Chat(Sampling):
    """Talk to a run; it remembers what was said, as far as its context reaches.

    Example: linnet chat runs/demo --temperature 0.5
    """

    run: Positional[Path]
    """the run folder"""
    temperature: float = 0.5
    """higher is more surprising; 0 always takes the likeliest token"""
    system: str | None = None
    """a system prompt, kept when the context overflows"""
    checkpoint: str = "best"
    """best (lowest validation loss), last, or a step"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""


def main(argv: Sequence[str]) -> None:
    """A line in, an answer out, until the input ends."""
    args = parse_flags(Chat, argv, "linnet chat")
    import linnet

    lm = linnet.load(args.run, checkpoint=args.checkpoint, device=args.device)
    options = {field.name: getattr(args, field.name) for field in fields(Sampling)}
    conversation = lm.conversation(args.system, **options)
    if sys.stdin.isatty():
        say(f"talking to {lm.name}; {HELP}")
    for line in lines():
        if line in ("/quit", "/exit"):
            break
        if line.startswith("/"):
            command(line, conversation, args.system)
        elif line.strip():
            answer(line, conversation)


def lines() -> Iterator[str]:
    """What the user types, line by line; a prompt is shown on a terminal only."""
    interactive = sys.stdin.isatty()
    if interactive:
        with contextlib.suppress(ImportError):  # Windows has none
            import readline  # noqa: F401 - gives input() a history and editing keys
    while True:
        try:
            yield input("you> " if interactive else "")
        except EOFError:
            return


def command(line: str, conversation: "Conversation", system: str | None) -> None:
    """Does what a line that begins with a slash asks for."""
    if line == "/reset":
        conversation.messages = [] if system is None else [{"role": "system", "content": system}]
        say("forgotten")
    elif line == "/help":
        say(HELP)
    else:
        say(f"unknown command {line.split()[0]}; {HELP}")


def answer(line: str, conversation: "Conversation") -> None:
    """Prints the reply as it comes; Ctrl-C cuts it short and keeps what came."""
    try:
        for piece in conversation.stream(line):
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        say(" (cut short)")
    print(flush=True)
