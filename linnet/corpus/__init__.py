"""The built-in world: stories, dialogues and an exam, all from one grammar and a seed.

The grammar knows the exact probability of every text that it can produce, so the corpus knows how many bits each
character carries, and with that how good the best possible model of it would be.
"""

from linnet.corpus.assistant import Settings
from linnet.corpus.exam import Question, exam
from linnet.corpus.stories import (
    Derivation,
    Dialogue,
    Story,
    dialogues,
    parse_dialogue,
    parse_story,
    stories,
)

__all__ = [
    "Derivation",
    "Dialogue",
    "Question",
    "Settings",
    "Story",
    "dialogues",
    "exam",
    "parse_dialogue",
    "parse_story",
    "stories",
]
