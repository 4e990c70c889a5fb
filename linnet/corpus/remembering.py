"""The grammar of what is remembered: for each thing that people tell of themselves, how it is told and asked for."""

from __future__ import annotations

import re

from linnet.corpus.tables import UNTOLD, marked, sections

# the words in capitals are put in for each kind of memory.txt; SMALL are the questions in small letters
_KIND = """
$my_KIND: DOMAIN
told_KIND:
| @user <my_name_is> {my_name}( and|, and|. And) (TOLD)
meet_KIND:
| <told_KIND>(2:.|) @bot <nice>, {my_name}! (SAID)
tell_KIND:
| @user (And |By the way, |Also, |You know, |){!my_KIND}(TOLD)(2:.|) @bot (SAID)
ask_KIND:
| {asked=my_KIND}@user (ASKED|SMALL)(2:?|) @bot ANSWER
tell_and_ask_KIND:
| <told_KIND>. {asked=my_KIND}(ASKED)? @bot ANSWER
| <told_KIND>. {asked=my_name}(What is my name|Who am I)? @bot Your name is {my_name}.
missing_KIND:
| @user (ASKED)(2:?|) @bot UNTOLD
"""

# OTHER and THIRD are two more kinds: the one is told later, the other never
_MEMORIES = """
| 3: <meet_KIND><between>(<ask_name>|2:<ask_KIND>)[40%:(<ask_name>|<ask_KIND>|<missing_OTHER>)]
| <tell_and_ask_KIND>[40%:(<ask_name>|<ask_KIND>)]
| <tell_KIND><between><ask_KIND>[30%:(<missing_name>|<missing_OTHER>)]
| <meet_KIND>(<between_1>|<between_2>|<between_3>)<tell_OTHER><between>
  (<ask_name>|<ask_KIND>|<ask_OTHER>|<missing_THIRD>)[50%:(<ask_name>|<ask_KIND>|<ask_OTHER>|<missing_THIRD>)]
"""

_NAME = """
missing_name:
| @user (What is my name|Do you know my name|Who am I)(2:?|) @bot UNTOLD
memory:
| 3: <meet_name><between><ask_name>
| 2: <meet_pet><between><ask_pet>[40%:<ask_pet>]
"""


def kinds() -> list[str]:
    """What people tell of themselves, besides their name and their pet."""
    return [kind for kind, _ in sections("memory") if kind]


def memory_grammar() -> str:
    """The rules of all kinds, and of `memory`, which chooses among them; for the exam, `exam_memory_1` to `_5`."""
    names = kinds()
    text = "".join(_rules(kind, lines) for kind, lines in sections("memory") if kind)
    text += _NAME.replace("UNTOLD", UNTOLD).rstrip()
    for place, kind in enumerate(names):
        other, third = names[(place + 5) % len(names)], names[(place + 3) % len(names)]
        memories = _MEMORIES.replace("KIND", kind).replace("OTHER", other).replace("THIRD", third)
        text += memories.replace("\n  ", "").rstrip()
    for turns in range(1, 6):
        text += f"\nexam_memory_{turns}:\n| <meet_pet><between_{turns}><ask_pet>"
        text += "".join(f"\n| <meet_{kind}><between_{turns}>(<ask_name>|<ask_{kind}>)" for kind in names)
    return text


def _rules(kind: str, lines: list[tuple[str, str]]) -> str:
    slot = f"{{my_{kind}}}"
    told, said, asked = ("|".join(marked(lines, mark)).replace("{}", slot) for mark in (">", "!", "?"))
    [answer] = marked(lines, "=")
    small = "|".join(way[0].lower() + way[1:] for way in asked.split("|"))
    parts = {"UNTOLD": UNTOLD, "KIND": kind, "DOMAIN": lines[0][1], "ANSWER": answer.replace("{}", slot)}
    parts |= {"TOLD": told, "SAID": said, "ASKED": asked, "SMALL": small}
    return re.sub("|".join(parts), lambda match: parts[match[0]], _KIND)
