"""No document on both sides, no validation set empty, and fractions that are true."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from linnet.data.dialogues import identity_pairs, keys, normalised, pair
from linnet.data.options import DataConfig
from linnet.data.plan import DUPLICATE, EMPTY, SPLITS, TEST, TRAIN, VAL
from linnet.data.readers import Document
from linnet.data.splitting import Survey
from linnet.errors import UserError


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The plan for texts, pairs (tuples) and ready documents."""
    folder = tmp_path_factory.mktemp("plans")

    def plan(items, **options):
        def document(item):
            if isinstance(item, Document):
                return item
            return Document(chunks=iter([item])) if isinstance(item, str) else Document(messages=pair(*item))

        survey = Survey(folder / "survey", DataConfig(**options))
        survey.read(document(item) for item in items)
        return survey.plan()

    return plan


def parts(plan, texts):
    """What each split gets of `texts`, joined."""
    got = dict.fromkeys(SPLITS, "")
    for index, text in enumerate(texts):
        for name, chunks in plan.pieces(
            index, Document(chunks=iter([text[:3], text[3:]] if len(text) > 3 else [text]))
        ):
            got[name] += "".join(chunks)
    return got


def test_the_tail_of_one_text_is_exact_in_characters(planned):
    text = "".join(chr(97 + n % 26) for n in range(1005))
    plan = planned([text], val_fraction=0.1)
    assert plan.split == "tail"
    assert parts(plan, [text]) == {"train": text[:904], "val": text[904:], "test": ""}  # 904 = floor(0.9 * 1005)


def test_the_customary_split_of_shakespeare(planned, shared):
    text = (shared / "tinyshakespeare.txt").read_text()
    plan = planned([text], val_fraction=0.1)
    assert [len(part) for part in parts(plan, [text]).values()] == [1_003_854, 111_540, 0]


@settings(max_examples=60)
@given(
    texts=st.lists(st.text(alphabet="abc", min_size=1, max_size=30), min_size=1, max_size=8, unique=True),
    val=st.sampled_from([0.1, 0.25, 0.5]),
    test=st.sampled_from([0, 0.1, 0.25]),
)
@example(texts=["b", "aa"], val=0.1, test=0.1)
def test_a_tail_cut_loses_nothing_and_keeps_the_order(planned, texts, val, test):
    whole = "".join(texts)
    try:
        plan = planned(texts, val_fraction=val, test_fraction=test, split="tail")
    except UserError:
        assert len(whole) < 20
        return
    got = parts(plan, texts)
    assert got["train"] + got["val"] + got["test"] == whole
    assert got["val"]
    borders = [int(len(whole) * (1 - val - test)), int(len(whole) * (1 - test)), len(whole)]
    if borders[0] < borders[1] and (borders[1] < borders[2] or not test):  # else whole texts are held out
        assert len(got["train"]) == borders[0]


def test_a_hundred_documents_are_split_by_hash_and_kept_whole(planned):
    texts = [f"text number {n} of many" for n in range(2000)]
    plan = planned(texts, val_fraction=0.1, test_fraction=0.2)
    assert plan.split == "hash"
    assert not plan.cuts
    counts = np.bincount(plan.fates, minlength=3)
    assert counts[[TRAIN, VAL, TEST]] == pytest.approx([1400, 200, 400], rel=0.15)
    again = planned(texts[::-1], val_fraction=0.1, test_fraction=0.2)
    assert (again.fates[::-1] == plan.fates).all()  # the content decides, not the order
    assert (planned(texts, val_fraction=0.1, test_fraction=0.2, seed=1).fates != plan.fates).any()


@pytest.mark.parametrize("split", ["hash", "tail"])
@pytest.mark.parametrize("count", [2, 3, 10, 100, 130])
@pytest.mark.parametrize("test_fraction", [0, 0.001])
def test_validation_is_never_empty(planned, split, count, test_fraction):
    if count == 2 and test_fraction:
        pytest.skip("two questions cannot fill three splits")
    pairs = [(f"Question {n}?", f"Answer {n}.") for n in range(count)]
    plan = planned(pairs, split=split, val_fraction=0.001, test_fraction=test_fraction)
    assert (plan.fates == VAL).sum() >= 1
    assert (plan.fates == TRAIN).sum() >= 1
    assert bool((plan.fates == TEST).sum()) == bool(test_fraction)


@pytest.mark.trap(10)
def test_exact_duplicates_are_dropped_and_counted(planned):
    texts = [f"text {n % 150}" for n in range(600)]
    plan = planned(texts)
    assert plan.duplicates == 450
    assert (plan.fates[:150] <= TEST).all()
    assert (plan.fates[150:] == DUPLICATE).all()


@pytest.mark.trap(10)
@pytest.mark.parametrize("split", ["hash", "tail"])
@pytest.mark.parametrize("builtin", [False, True])
def test_no_question_stands_on_both_sides(planned, split, builtin):
    def spelled(n):
        return [f"What is {n}?", f"what  is {n}", f"WHAT IS {n}!!"][n * 7 % 3]

    items = [
        Document(messages=pair(spelled(n % 120), f"It is {n % 7}."), builtin=builtin) for n in range(1000)
    ]  # the same questions come again and again, with other spellings and answers
    plan = planned(items, split=split, val_fraction=0.2)
    sides = {}
    for n, fate in enumerate(plan.fates.tolist()):
        if fate != DUPLICATE:
            sides.setdefault(n % 120, set()).add(fate)
    assert all(len(fates) == 1 for fates in sides.values())
    assert {VAL} in sides.values()
    assert plan.duplicates == (0 if builtin else 1000 - 840)  # 120 questions x 7 answers differ


@pytest.mark.trap(10)
@pytest.mark.parametrize("split", ["hash", "tail"])
def test_a_text_that_differs_in_case_and_spacing_stays_on_its_side(planned, split):
    texts = [f"Once  upon a time, {n}." if n < 500 else f"once upon A time {n - 500}" for n in range(1000)]
    plan = planned(texts, split=split, val_fraction=0.3)
    assert (plan.fates[:500] == plan.fates[500:]).all()
    assert (plan.fates == VAL).any() or split == "tail"


def test_one_question_cannot_be_split(planned):
    with pytest.raises(UserError, match="too little text to split: nothing is left for"):
        planned([("Why?", str(n)) for n in range(200)])


@pytest.mark.parametrize("split", ["hash", "tail"])
def test_identity_is_always_training(planned, split):
    identity = [Document(messages=pair(*item), identity=True) for item in identity_pairs("Linnet", "me")]
    others = [(f"Question {n}?", f"Answer {n}.") for n in range(150)]
    others[149] = ("what is YOUR name", "Somebody else.")  # same question: it would test what is always trained
    plan = planned([*others, *identity], split=split, val_fraction=0.9)
    assert (plan.fates[149:] == TRAIN).all()
    assert (plan.fates[:149] == VAL).sum() > 100


def test_documents_without_text_are_left_out(planned):
    plan = planned(["", " \n", "some text to split"])
    assert plan.fates[:2].tolist() == [EMPTY, EMPTY]
    assert plan.empty == 2


def test_many_documents_are_compared_in_portions(planned):
    texts = [f"{n}" for n in range(300_000)]
    texts[299_999] = texts[5]
    plan = planned(texts)
    assert plan.duplicates == 1
    assert plan.fates[299_999] == DUPLICATE


def test_normalising_keeps_what_makes_a_question_another_one():
    assert normalised("What's  AI?") == normalised("what s ai") == "what s ai"
    assert normalised("Stra\u00dfe") == normalised("STRASSE")
    assert normalised("1 + 1?") != normalised("1 - 1?")
    assert normalised("?") != normalised("+")
    assert normalised("cafe\u0301") == normalised("caf\u00e9")


def test_duplicates_agree_in_every_letter():
    assert keys(pair("How much?", "1.000"))[0] != keys(pair("How much?", "1,000"))[0]
    assert keys(pair("Hello", "Hi"))[1] == keys(pair("hello!", "Hey"))[1]
    be_kind = {"role": "system", "content": "Be kind."}
    assert keys(pair("Hello", "Hi"))[0] != keys([be_kind, *pair("Hello", "Hi")])[0]
    assert keys(pair("Hello", "Hi"))[1] == keys([be_kind, *pair("Hello", "Hi")])[1]


def conversation(first, *rest):
    texts = [first, *rest]
    roles = ["user", "assistant"] * len(texts)
    return Document(
        messages=[{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)],
    )


def first_questions(items, plan):
    """The first questions of training, and of what is held out."""
    sides = {TRAIN: set(), VAL: set()}
    for item, fate in zip(items, plan.fates.tolist(), strict=True):
        sides[fate].add(normalised(item.messages[0]["content"]))
    return sides[TRAIN], sides[VAL]


@pytest.mark.trap(10)
@pytest.mark.parametrize("split", ["hash", "tail"])
def test_no_first_question_of_a_conversation_stands_on_both_sides(planned, split):
    items = [conversation(f"What is {n % 150}?", "This.", f"And {n}?", "That.") for n in range(600)]
    items += [conversation("hello" if n % 2 else "Hello!", "Hi.", f"And {n}?", "That.") for n in range(200)]
    plan = planned(items, split=split, val_fraction=0.1)
    train, val = first_questions(items, plan)
    assert val
    assert not train & val
    assert (plan.common, plan.shared_questions) == (200, 0)  # what opens so many stays in training
    assert plan.dialogues_held_out == (plan.fates == VAL).sum()
    assert split == "tail" or 0.04 <= plan.dialogues_held_out / len(items) <= 0.2


def test_where_all_begin_alike_the_overlap_is_counted(planned):
    items = [conversation("Who are you?", "Bo.", f"What comes after {n}?", f"{n + 1}.") for n in range(120)]
    plan = planned(items, val_fraction=0.1)
    held_out = int((plan.fates == VAL).sum())
    assert 0 < held_out < 40
    assert (plan.common, plan.shared_questions, plan.dialogues_held_out) == (0, held_out, held_out)


def test_greetings_of_the_built_in_world_are_on_both_sides_and_counted(planned):
    items = [conversation("Hello", "Hi.", f"And {n}?", "That.") for n in range(300)]
    for item in items:
        item.builtin = True
    plan = planned(items, val_fraction=0.1)
    assert plan.common == 0
    assert plan.shared_questions == plan.dialogues_held_out == (plan.fates == VAL).sum() > 10
