"""`linnet chat`: talk to a run, or write on with it, in the terminal or in a pipe."""

import contextlib
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from linnet.config import parse_flags, unescaped
from linnet.console import emit, say
from linnet.errors import UserError
from linnet.generate.sampling import Sampling

if TYPE_CHECKING:
    from linnet.generate.commands import Commanded
    from linnet.lm import LM


@dataclass(frozen=True, kw_only=True)
class Chat(Sampling):
    """Talk to a run; it remembers what was said, as far as its context reaches. /help lists the commands.

    A run that learned from plain text writes on with you instead: you begin a text, it goes on, you go on.

    Example: linnet chat runs/demo --temperature 0.5
    """

    run: Positional[Path]
    """the run folder"""
    temperature: float = 0.5
    """higher is more surprising; 0 always takes the likeliest token"""
    system: str | None = None
    """a system prompt, kept when the context overflows"""
    transcript: Path | None = None
    """add each turn to this file as it happens: JSON lines that `linnet prepare` reads as dialogues"""
    checkpoint: str = "best"
    """best (lowest validation loss), last, or a step"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    json: bool = False
    """print one JSON object for each answer"""


GREETING = """\
writing on with {name}: type the beginning of a text, and go on where it stops. What you type is added as it is (begin
with a space where one belongs); an empty line lets it write on. /help lists the commands, /quit or Ctrl-D ends"""

MODEL, OFF = "\x1b[36m", "\x1b[0m"
"""the colour of what the model adds to a text, and its end"""


def main(argv: Sequence[str]) -> None:
    """A line in, an answer out, until the input ends."""
    args = parse_flags(Chat, argv, "linnet chat")
    import linnet

    lm = linnet.load(args.run, checkpoint=args.checkpoint, device=args.device)
    session = session_of(args, lm)
    interactive = sys.stdin.isatty()
    if interactive:
        talking = f"talking to {lm.name}; /help lists the commands, /quit or Ctrl-D ends"
        say(GREETING.format(name=lm.name) if lm.template is None else talking)
    for line in typed(list(session.commands)) if interactive else piped():
        if line.startswith("/"):
            obey(line, session)
        elif line.strip() or session.one_text:
            answer(line, session, args.json, interactive)
        if not session.open:
            return


def session_of(args: Chat, lm: "LM") -> "Commanded":
    """A chat with a model that has learned dialogues, a draft with another.

    Raises:
        UserError: a draft is to have what only a chat can.
    """
    from linnet.generate.draft import DraftSession
    from linnet.generate.session import Session
    from linnet.generate.transcript import Transcript

    options = {field.name: getattr(args, field.name) for field in fields(Sampling)}
    options["stop"] = tuple(map(unescaped, args.stop))
    if lm.template is not None:
        transcript = Transcript(args.transcript) if args.transcript is not None else None
        return Session(lm.conversation(args.system, **options), transcript)
    for flag, given in (("--system", args.system), ("--transcript", args.transcript)):
        if given is not None:
            raise UserError(
                f"{flag} is for runs that learned dialogues; {lm.name} has no chat template and continues a text: "
                "leave it out (/save FILE keeps the text)"
            )
    return DraftSession(lm.draft(**options))


def typed(commands: Sequence[str]) -> Iterator[str]:
    """Lines from a terminal, with editing keys, a history, and commands completed by Tab."""
    with contextlib.suppress(ImportError):  # Windows has none
        import readline

        readline.set_completer_delims("")
        readline.set_completer(lambda text, n: [*(name for name in commands if name.startswith(text)), None][n])
        readline.parse_and_bind("tab: complete")
    while True:
        try:
            if sys.stdout.isatty():
                yield input("you> ")
            else:  # input() would write its prompt among the answers
                print("you> ", end="", file=sys.stderr, flush=True)
                yield input()
        except EOFError:
            say()
            return
        except KeyboardInterrupt:
            say(" (Ctrl-D leaves)")


def piped() -> Iterator[str]:
    """The lines of standard input; bytes that are no UTF-8 become U+FFFD."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    for line in sys.stdin:
        yield line.rstrip("\r\n")


def obey(line: str, session: "Commanded") -> None:
    """Does what a line that begins with a slash asks for."""
    try:
        said = session.command(line)
    except UserError as error:
        said = str(error)
    except KeyboardInterrupt:  # /why reads the whole answer again
        said = " (cut short)"
    if said:
        say(said)


def answer(line: str, session: "Commanded", as_json: bool, interactive: bool) -> None:
    """Prints the reply as it comes; on a terminal Ctrl-C cuts it short, keeps what came, and the session goes on."""
    said: list[str] = []
    cut = False
    on, off = colours() if session.one_text else ("", "")
    try:
        with contextlib.closing(session.ask(line)) as pieces:
            for piece in pieces:
                said.append(piece)
                if not as_json:
                    print(f"{on}{piece}{off}", end="", flush=True)
    except KeyboardInterrupt:
        cut = True
        if not interactive:
            raise
    except UserError as error:
        if not interactive:
            raise  # nobody is there to mend it
        say(f"{error}")
        if not said:
            return
    if as_json:
        emit({"prompt": line, "reply": "".join(said), "whole": not cut})
    else:
        print(flush=True)
    if cut:
        say("(cut short)")
    elif interactive and session.remark:
        say(session.remark)


def colours() -> tuple[str, str]:
    """What colours the model's part of a text, and what ends that; empty where standard output shows no colours."""
    from rich.console import Console

    console = Console(file=sys.stdout)
    return (MODEL, OFF) if console.color_system and not console.legacy_windows else ("", "")
