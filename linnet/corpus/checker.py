"""A second judge of replies, of either world, which knows nothing of the grammar.

It reads the plain text of a dialogue by its own small rules: it adds, spells, finds in what was told who has the ball,
and looks up facts in the table of facts. What it finds nowhere, nobody can know, and the right reply says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from linnet.corpus.assistant import Settings
from linnet.corpus.question import NUMBERS
from linnet.corpus.tables import sections

Message = Mapping[str, str]

_REFUSAL = re.compile(
    r"\b(do not|don't|cannot|can't|could not|couldn't) (really )?(know|say|tell|answer|remember)\b"
    r"|\bnot (sure|certain)\b"
    r"|\bno idea\b|\b(have not|haven't|never|did not|didn't) (told|tell|said|say)\b|\bdoes not say\b|\bunknown to me\b",
    re.IGNORECASE,
)

# what a reply has to say of the assistant when the question has one of these words; the first that fits counts
_ABOUT_ITSELF = (
    (
        r"\b(made|built|created|creator|maker|programmed|wrote|developed|trained) you\b|\byour (creator|maker)\b",
        "{creator}",
    ),
    (r"\bare you made\b|\bhave? made you\b|\bpeople made you\b|\bdo you come from\b", "{creator}"),
    (
        r"\b(your name|are you called|call you|who are you|name do you have|have a name|talking to|who is there)\b",
        "{me}",
    ),
    (
        r"\b(can you do|what do you do|help me|good at|ask you|do together|able to do|you for|help people)\b"
        r"|\bwhat do you know\?",
        "stories",
    ),
    (
        r"\b(how are you|how do you (do|feel)|are you (well|fine|happy)|how is it going|how are things)\b",
        "well|fine|happy",
    ),
    (r"\b(how was your day|have a good day)\b", "well|fine|happy|good"),
    (r"\b(what are you|are you (an?|human|alive|real)|kind of being)\b", "model"),
)
_THANKS = r"\bthank(s| you)\b|^that helped"
_BYE = (
    r"\b(bye|goodbye|good night|must go|have to go|farewell|take care|sleep well|leaving|until next time|that is all)\b"
    r"|\bsee you (soon|later|tomorrow|then)\b|^see you\b"
)
_HELLO = (
    r"^(hello|hi|hey|good (morning|evening|day|afternoon)|greetings|welcome back|nice to see|good to see|it is me"
    r"|i am back)\b"
)

# how a fact is asked for, by its kind in the table of facts
_FACTS = {
    "home": r"\b(live|lives|find an?|home)\b",
    "food": r"\b(eat|eats|food)\b",
    "sound": r"\b(sounds?|bark)\b",
    "young": r"\b(young|baby)\b",
    "colour": r"\bcolour\b",
    "opposite": r"\bopposite\b",
    "after": r"\b(after|follows)\b",
    "before": r"\bbefore\b",
    "job": r"\b(job|work|what a \w+ does|does a \w+ do)\b",
    "legs": r"\blegs\b",
    "use": r"\b(use|for|with|need)\b",
    "made": r"\b(made|make)\b",
    "taste": r"\b(tastes?|sweet)\b",
    "sort": r"\b(is an?|kind of|sort of|what an? \w+ is)\b",
}

# a question about what was told, and the sentence that answers it; (?P<n1>...) of the question stands in the sentence
_TOLD = (
    (r"who has the (\w+)", r"(\w+) has an? (?:\w+ )?{0}\b"),
    (r"what does (\w+) have", r"{0} has an? (?:\w+ )?(\w+)\."),
    (r"where is the (\w+)", r"\bthe (?:\w+ )?{0} (?:is in|into) the (\w+)"),
    (r"what is in the (\w+)", r"\bthe (?:\w+ )?(\w+) is in the {0}\b"),
    (r"where did (\w+) go", r"{0} \w+ to the (\w+)"),
    (r"who went to the (\w+)", r"(\w+) \w+ to the {0}\b"),
    (r"whom? did (\w+) meet", r"{0} (?:met|saw) (\w+)[,.]"),
    (
        r"what did (\w+) (?!lose|love|like|give)\w+",
        r"\b{0} went to.*(?:there s?he|day and) \w+ an? (?:\w+ )?(?!there)(\w+)(?: there)?\.",
    ),
    (r"who (?!has|lost|found|got|likes|gave)\w+ the (\w+)", r"(\w+) went to.* an? (?:\w+ )?{0}\b"),
    (r"where did \w+ (?!lose|find)\w+ the (\w+)", r"went to the (\w+).* an? (?:\w+ )?{0}\b"),
    (r"when did \w+ (?!go)\w+ the (\w+)", r"\b(\w+day)\b.* an? (?:\w+ )?{0}\b"),
    (r"what kind of animal is (\w+)", r"{0}, an? \w+ (\w+)\."),
    (r"when did (\w+) go to the \w+", r"(?:one|on) (\w+day) {0}\b"),
    (r"what did (\w+) lose", r"{0} lost an? (?:\w+ )?(\w+) near"),
    (r"who lost the (\w+)", r"(\w+) lost an? (?:\w+ )?{0}\b"),
    (r"where did \w+ lose the (\w+)", r"lost an? (?:\w+ )?{0} near the (\w+)"),
    (r"who found the (\w+)", r"(\w+) found the {0}\b"),
    (r"where did (\w+) find the \w+", r"{0} found the \w+ in the (\w+)"),
    (r"what does (\w+) like", r"{0} (?:likes|loves) ([\w ]+)\."),
    (r"who likes (\w[\w ]*)", r"(\w+) (?:likes|loves) {0}\."),
    (r"what kind of animal was (\w+)", r"{0} was an? \w+ (\w+) and"),
    (r"what did (\w+) love", r"{0} was an? \w+ \w+ and loved ([\w ]+)\."),
    (r"what did (\w+) like", r"{0} liked the (\w+) (?:so|very)"),
    (r"what colour is the (\w+)", r"\bthe {0} is (\w+)\."),
    (r"what is (\w+)", r"\bthe (\w+) is {0}\."),
    (r"how old is (\w+)", r"{0} is (\d+) years old"),
    (r"who is (\d+) years old", r"(\w+) is {0} years old"),
    (r"what did (\w+) give (\w+)", r"{0} gave {1} an? (?:\w+ )?(\w+)\."),
    (r"who gave (\w+) the (\w+)", r"(\w+) gave {0} an? (?:\w+ )?{1}\b"),
    (r"who got the (\w+)", r"gave (\w+) an? (?:\w+ )?{0}\b|\b(\w+) liked the {0} (?:so|very)"),
)

# what the user asks about themselves, and how they may have told it
_OWN = (
    (r"my town|do i live|i live|my home", r"\b(?:i live in|home is in|come from) (\w+)"),
    (r"best friend|friend called|name of my friend", r"\bfriend is (?:called )?(\w+)"),
    (
        r"my (pet|cat|dog|\w+)\b.*called|name (?:of|for) my (\w+)|my (\w+)'s name",
        r"\b(?:have an? {0} (?:called|named)|my {0} is(?: called)?|name of my {0} is) (\w+)",
    ),
    (r"who is my (brother|sister)", r"\b(?:have an? {0} called|my {0} is(?: called)?|name of my {0} is) (\w+)"),
    (r"birthday", r"\b(?:birthday is on|born on a) (\w+day)"),
    (r"my name|who am i|who i am|am i called", r"\b(?:my name is|my name's|i am|i'm|call me) ([A-Z]\w+)"),
    (r"colour", r"\b(?:colour is|the colour) (\w+)(?: best)?$"),
    (r"food|like to eat", r"\b(?:food is|to eat) ([\w ]+)"),
    (r"drink", r"\b(?:drink is|i like to drink|i drink) ((?:(?!every)\w+ ?)+)"),
    (r"old am i|my age|old i am", r"\b(?:i am|my age is) (\d+)"),
    (r"hobby|like to do", r"\b(?:hobby is|i like|i love) (?!the\b|to\b)(\w+)"),
    (r"animal", r"\b(?:animal is the|i like the) (\w+)"),
    (r"number", r"\bnumber is (\d+)"),
    (r"my job|work", r"\b(?:i am an?|work as an?) (\w+)"),
    (r"flower", r"\b(?:flower is the|i like the) (\w+)"),
    (r"do i have|i get|i got|new thing", r"\b(?:have a new|bought an?|got an?) (\w+)"),
    (r"instrument|do i play", r"\b(?:i play the|learning the|instrument is the) (\w+)"),
)


def refuses(reply: str) -> bool:
    """Whether a reply says that it does not know."""
    return _REFUSAL.search(reply) is not None


def right(messages: Sequence[Message], reply: str, settings: Settings | None = None) -> bool:
    """Whether `reply` answers the last of the messages, a question to the assistant."""
    told = [message["content"] for message in messages if message["role"] == "user"]
    asked = told[-1]
    story, question = _cut(asked)
    for judge in (_calculates, _compares, _spells, _tells, _talks_of_itself):
        found = judge(question if judge is not _tells else asked, reply, settings or Settings())
        if found is not None:
            return found
    own = re.search(r"\b(my|i)\b", question, re.IGNORECASE) or not story
    expected = (
        _from_the_user([*told[:-1], *re.split(r"\. ", story)], question) if own else _from_the_story(story, question)
    )
    if expected is None and not story:
        return _knows(asked, reply)
    if expected is None:
        return refuses(reply)
    return not refuses(reply) and _says(reply, expected)


def _cut(asked: str) -> tuple[str, str]:
    """What is told before a question, and the question."""
    sentences = re.split(r"(?<=[.!:]) +", asked)
    return " ".join(sentences[:-1]), sentences[-1]


def _says(reply: str, expected: str) -> bool:
    words = {expected, NUMBERS[int(expected)]} if expected.isdigit() and int(expected) < 100 else {expected}
    return any(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", reply, re.IGNORECASE) for word in words)


def _calculates(question: str, reply: str, settings: Settings) -> bool | None:
    between = re.search(r"(\d+) *(\+|plus|-|minus) *(\d+)", question)
    added = re.search(r"\b(?:add|sum of) (\d+) and (\d+)", question, re.IGNORECASE)
    taken = re.search(r"\b(?:take|subtract) (\d+) from (\d+)", question, re.IGNORECASE)
    if between:
        a, b = int(between[1]), int(between[3])
        result = a + b if between[2] in ("+", "plus") else a - b
    elif added:
        result = int(added[1]) + int(added[2])
    elif taken:
        result = int(taken[2]) - int(taken[1])
    else:
        return None
    spoken = re.findall(r"\d+|[a-z]+(?:-[a-z]+)?", reply.lower())
    numbers = [
        int(word) if word.isdigit() else NUMBERS.index(word) for word in spoken if word.isdigit() or word in NUMBERS
    ]
    return bool(numbers) and numbers[-1] == result


def _compares(question: str, reply: str, settings: Settings) -> bool | None:
    """Which of two numbers is more or less, and which one comes before or after a number."""
    pair = re.search(r"\b(more|bigger|larger|less|smaller)\b.*?(\d+) or (\d+)", question)
    if pair:
        numbers = sorted((int(pair[2]), int(pair[3])))
        wanted = numbers[pair[1] in ("more", "bigger", "larger")]
        return _says(reply, str(wanted)) and not _says(reply, str(sum(numbers) - wanted))
    near = re.search(r"\b(before|after) (\d+)", question)
    return None if near is None else _says(reply, str(int(near[2]) + (1 if near[1] == "after" else -1)))


def _spells(question: str, reply: str, settings: Settings) -> bool | None:
    found = re.search(
        r"\b(?:spell|letters of|do i write) (?:the word )?(\w+)|\bis (\w+) spelled", question, re.IGNORECASE
    )
    if found is None:
        return None
    letters = (found[1] or found[2]).lower()
    runs = re.findall(r"\b\w(?:(?:[-,. ]| - |, |\. )\w\b)+", reply.lower())
    return letters in ("".join(re.findall(r"\w", run)) for run in runs)


def _tells(asked: str, reply: str, settings: Settings) -> bool | None:
    found = re.search(r"\b(?:story|tale) (?:about|with) an? (\w+) and an? (\w+)", asked, re.IGNORECASE)
    if found is None:
        return None
    sentences = re.findall(r"[.!?]\"?(?: |$)", reply)
    return len(sentences) >= 2 and _says(reply, found[1]) and _says(reply, found[2])


def _talks_of_itself(question: str, reply: str, settings: Settings) -> bool | None:
    names = {"{me}": re.escape(settings.name), "{creator}": re.escape(settings.creator)}
    for asked, said in _ABOUT_ITSELF:
        if re.search(asked, question, re.IGNORECASE):
            return re.search(rf"\b({names.get(said, said)})(?!\w)", reply, re.IGNORECASE) is not None
    for asked, said in ((_THANKS, "welcome"), (_BYE, "goodbye|bye|see you"), (_HELLO, "hello|hi|good day")):
        if not question.endswith("?") and re.search(asked, question, re.IGNORECASE):
            return re.search(rf"\b({said})\b", reply, re.IGNORECASE) is not None
    return None


def _from_the_story(story: str, question: str) -> str | None:
    for asked, said in _TOLD:
        found = re.match(asked, question, re.IGNORECASE)
        if found:
            answers = re.search(said.format(*map(re.escape, found.groups())), story, re.IGNORECASE)
            return next(filter(None, answers.groups())) if answers else None
    return None


def _from_the_user(told: Sequence[str], question: str) -> str | None:
    pet = re.search(r"(?:what kind of animal is|who is) ([A-Z]\w+)", question, re.IGNORECASE)
    if pet and pet[1].lower() != "my":
        said = rf"\ban? (\w+) (?:called|named) {re.escape(pet[1])}\b|\bmy (\w+) is called {re.escape(pet[1])}\b"
        found = [re.search(said, text, re.IGNORECASE) for text in told]
        return next((match[1] or match[2] for match in reversed(found) if match), None)
    if not re.search(r"\b(my|i)\b", question, re.IGNORECASE):
        return None
    for asked, said in _OWN:
        match = re.search(asked, question, re.IGNORECASE)
        if match:
            whom = [group for group in match.groups() if group]
            for text in (text.rstrip(".!") for text in reversed(told)):
                flags = re.NOFLAG if "[A-Z]" in said else re.IGNORECASE
                answer = re.search(
                    said.format(*whom) if "{0}" in said else said, text if flags else _lowered(text), flags
                )
                if answer:
                    return answer[1].strip()
            return None
    return None


def _lowered(text: str) -> str:
    """The text with its openings in small letters, its names as they are."""
    return re.sub(r"\b(My|I|They|Call)\b", lambda match: match[0].lower(), text)


def _knows(question: str, reply: str) -> bool:
    """Whether a reply is the fact that is asked for and none of its kind besides, or says that it does not know."""
    about = re.sub(r"sweet, sour or salty|bark, sing", "", question)
    for kind, asked in _FACTS.items():
        if re.search(asked, question, re.IGNORECASE):
            for word, key in _table(kind):
                if re.search(rf"\b{re.escape(word)}\b", about):
                    others = {other for _, other in _table(kind)} - {key}
                    return _says(reply, key) and not any(_says(reply, other) for other in others if other not in about)
    return refuses(reply)


@cache
def _table(kind: str) -> tuple[tuple[str, str], ...]:
    lines = next(lines for title, lines in sections("facts") if title == kind)
    rows = [row.strip().split(": ") for mark, line in lines if not mark for row in line.split("|")]
    return tuple((word, key) for word, key in sorted(rows, key=lambda row: -len(row[0])))


Judge = Callable[[str, str, Settings], bool | None]
