"""What a run cannot do and what its figures do not say, in sentences computed from its own numbers."""

from __future__ import annotations

from collections.abc import Mapping

from linnet.console import count_of
from linnet.evaluate.counting import caution
from linnet.report.facts import PageFacts
from linnet.run.rows import number
from linnet.training.preflight import proportion

WORD = 6.0
"""characters of a word and the space after it, where no text is there to count them in"""

STILL_FALLING = 1.005
"""from one evaluation to the next; both score the same tokens, so the error of each says little of their difference"""


def limits(facts: PageFacts) -> list[tuple[str, str]]:
    """(title, sentences) of each limit that is known or always holds."""
    found = [
        ("What it knows", _knowledge(facts)),
        ("How often it read its text", _seen(facts)),
        ("Learning by heart", _overfitting(facts)),
        ("Whether it copies", _copying(facts)),
        ("How much it remembers", _memory(facts)),
        ("How sure these figures are", _certainty(facts)),
    ]
    invents = (
        "It writes what is likely, not what is true, and it does not know the difference: names, numbers and facts may "
        "be invented, and it sounds no less certain then. Nothing filters what it says. Check whatever matters."
    )
    return [*((title, text) for title, text in found if text), ("It makes things up", invents)]


def times(value: float) -> str:
    """A number of times in words: "once", "9.3 times"."""
    return "once" if 0.95 <= value < 1.05 else f"{value:.1f} times"


def _knowledge(facts: PageFacts) -> str:
    train = facts.splits.get("train", {})
    documents = number(train, "documents")
    text = "It knows nothing but the text that it was trained on"
    if documents is not None:
        text = f"It knows nothing but the {count_of(documents, 'document')} it was trained on"
    if facts.builtin:
        text += ", which Linnet's built-in grammar made up: stories and dialogues of a small invented world"
    before = facts.manifest.get("from")
    if isinstance(before, dict) and before.get("run"):
        text += f", and what {before['run']!r} had learned before, whose weights it began with. Words and topics that "
        text += "are rare in both are its weakest."
    else:
        text += ". No other text, no news, no web page has ever reached it; words and topics that are rare there are "
        text += "its weakest."
    scripts = (facts.sample or {}).get("scripts", {})
    if scripts:
        name, share = next(iter(scripts.items()))
        rest = "others are guesswork to it" if share > 0.99 else "it knows the others less well"
        much = "All" if share > 0.9995 else f"{share:.1%} of the"
        text += f" {much} letters in a sample of that text are {_script(name)}; {rest}."
    return text


def _script(name: str) -> str:
    return {"CJK": "Chinese characters", "OTHER": "of no named script"}.get(name, name.capitalize())


def _seen(facts: PageFacts) -> str:
    row = facts.best
    epochs = facts.epochs(row)
    if epochs is None:
        return ""
    if epochs < 0.95:
        text = f"This model has seen {epochs:.0%} of its training documents, once, and never read the others."
    else:
        text = f"This model has seen each training document {times(epochs)}"
        text += ", on average." if epochs % 1 > 0.05 else "."
    whole = facts.epochs()
    if row is not None and whole is not None and whole > epochs * 1.02:
        text += f" (That is up to its best checkpoint, step {_step(row)}; the run went on to {times(whole)}.)"
    tokens = number(facts.splits.get("train", {}), "tokens")
    if tokens:
        share = tokens / facts.parameters
        text += f" It has {proportion(share)}"
        text += "." if share >= 1 else ", so there is room to learn much of it by heart."
    return text


def _overfitting(facts: PageFacts) -> str:
    best, rows = facts.best, facts.evaluations
    if best is None:
        return (
            "It was never evaluated on text that was kept from it while it trained, so nothing here tells learning "
            "from learning by heart. Prepare the data with a validation share, and train again."
        )
    error = number(best, "val_standard_error") or 0.0
    loss, last = float(best["val_loss"]), float(rows[-1]["val_loss"])
    text = ""
    if last > loss + 2 * error and rows[-1] is not best:
        text = (
            f"Validation loss was lowest at step {_step(best)} and had risen to {last:.3f} at the end: "
            "from there on the model learned its training text by heart. Linnet uses the best checkpoint unless told "
            "otherwise."
        )
    elif len(rows) > 1 and rows[-1] is best and float(rows[-2]["val_loss"]) > loss * STILL_FALLING:
        text = (
            "Validation loss was still falling when training ended, so there is no sign of overfitting, and more "
            "training would probably help."
        )
    elif len(rows) > 1:
        text = "Validation loss had levelled off when training ended; it shows no sign of overfitting."
    train = _train_loss_near(facts)
    if train is not None and loss - train > max(0.1, 2 * error):
        text += (
            f" It predicts training text better ({train:.3f} nats per token while it learned) than text it has never "
            "seen: part of what it knows is these very documents."
        )
    return text.strip()


def _step(row: Mapping[str, object]) -> str:
    step = number(row, "step")
    return "?" if step is None else f"{step:,.0f}"


def _train_loss_near(facts: PageFacts) -> float | None:
    """The training loss logged last before the best evaluation."""
    assert facts.best is not None
    step = number(facts.best, "step") or 0
    before = [row for row in facts.rows if number(row, "train_loss") is not None and (number(row, "step") or 0) <= step]
    return number(before[-1], "train_loss") if before else None


def _copying(facts: PageFacts) -> str:
    found = facts.memorisation
    share, texts = number(found, "verbatim_share"), number(found, "texts")
    if share is None:
        return "Whether it repeats its training text word for word was not measured here."
    text = f"{share:.1%} of {texts:,.0f} sampled texts" if texts else f"{share:.1%} of the sampled texts"
    text += " stand word for word in a training document."
    overlaps = found.get("longest_overlap_words")
    if isinstance(overlaps, dict) and (longest := number(overlaps, "max")) is not None:
        text += f" The longest run of words that one of them shares with a training document is {longest:,.0f}"
        median = number(overlaps, "median")
        text += "." if median is None else f"; half of them share {median:,.0f} or fewer."
    return text


def _memory(facts: PageFacts) -> str:
    """The context in words, from the text's own length of words, or of English ones."""
    block = facts.model.block_size
    text = f"It sees {block:,} tokens at a time"
    sample, train = facts.sample or {}, facts.splits.get("train", {})
    tokens, words = number(sample, "tokens"), number(sample, "words")
    letters = characters_per_token(facts)
    if tokens and words and number(sample, "characters") and sample["characters"] / words < 20:
        text += f", about {_round(block * words / tokens):,} words of text like its own"
    elif letters is not None and not sample:
        text += f", about {_round(block * letters / WORD):,} words"
    elif letters is not None:
        text += f", about {_round(block * letters):,} characters of text like its own"
    text += ". What was said before that is forgotten entirely"
    text += "; in a chat the oldest messages go first." if facts.chats else "."
    documents, size = number(train, "documents"), number(train, "tokens")
    if documents and size and size / documents > block:
        text += f" Its training documents are longer than that on average ({size / documents:,.0f} tokens)."
    return text


def characters_per_token(facts: PageFacts) -> float | None:
    """How many characters of training text a token stands for."""
    train = facts.splits.get("train", {})
    characters, tokens = number(train, "characters"), number(train, "tokens")
    return characters / tokens if characters and tokens else None


def _round(value: float) -> int:
    """To two digits: nobody counts the words of a context."""
    digits = max(0, len(str(int(value))) - 2)
    return int(round(value, -digits))


def _certainty(facts: PageFacts) -> str:
    text = "They are of one run"
    seed = facts.config.get("train", {}).get("seed")
    if seed is not None:
        text += f" with seed {seed}"
    text += "; another seed gives slightly others."
    tokens = number(facts.splits.get("val", {}), "tokens")
    if tokens and "standard_error" in facts.reached:
        text += (
            f" The ± beside the loss is one standard error over the {tokens:,.0f} validation tokens, as if its windows "
            "were independent; where they are not, it is too small."
        )
    if tokens and facts.reached and (few := caution("val", round(tokens), facts.reached.get("standard_error"))):
        text += f" {few[0].upper()}{few[1:]}."
    if facts.best is not None:
        text += " The best checkpoint was chosen by this same validation loss, which flatters it a little."
    return text
