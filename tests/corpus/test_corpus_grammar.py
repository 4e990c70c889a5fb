"""The engine, on grammars small enough to work out by hand."""

from __future__ import annotations

import math
import random
import time

import pytest

from linnet.corpus.grammar import DeadEndError, Domain, Grammar
from linnet.corpus.notation import noun, read_grammar
from linnet.corpus.parsing import Parser
from linnet.corpus.sampling import Sampler

TINY = """
pet = cat, dog, owl
$a: pet
$b: pet != a
start:
| {a.a} and {b}[25%: (x|3:y)].
| 3: no <tint>
tint:
| red
| 2: blue
"""


def probability(grammar: Grammar, text: str) -> float:
    return sum(math.exp(log_probability) for log_probability, _ in Parser(grammar, "start").derivations(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no red", 3 / 4 * 1 / 3),
        ("no blue", 3 / 4 * 2 / 3),
        ("a cat and dog.", 1 / 4 * 1 / 3 * 1 / 2 * 3 / 4),
        ("an owl and cat x.", 1 / 4 * 1 / 3 * 1 / 2 * 1 / 4 * 1 / 4),
        ("an owl and cat y.", 1 / 4 * 1 / 3 * 1 / 2 * 1 / 4 * 3 / 4),
        ("a cat and cat.", 0),
        ("a owl and cat.", 0),
        ("no red.", 0),
        ("no", 0),
        ("", 0),
    ],
)
def test_a_text_has_the_probability_worked_out_by_hand(text, expected):
    assert probability(read_grammar(TINY), text) == pytest.approx(expected)


def test_the_probabilities_of_all_texts_sum_to_one():
    pets = {"a cat": "cat", "a dog": "dog", "an owl": "owl"}
    texts = [
        f"{a} and {b}{end}." for a, pet in pets.items() for b in pets.values() if b != pet for end in ("", " x", " y")
    ]
    grammar = read_grammar(TINY)
    assert sum(probability(grammar, text) for text in [*texts, "no red", "no blue"]) == pytest.approx(1)


def test_texts_come_as_often_as_their_probability_says():
    grammar, source = read_grammar(TINY), random.Random(1)
    sampler = Sampler(grammar, "start")
    texts = [sampler.sample(source)[0] for _ in range(20_000)]
    for text in ("no red", "no blue", "a cat and dog."):
        expected = probability(grammar, text)
        tolerance = 5 * math.sqrt(expected * (1 - expected) / len(texts))
        assert texts.count(text) / len(texts) == pytest.approx(expected, abs=tolerance)


def test_every_derivation_of_an_ambiguous_text_is_found():
    grammar = read_grammar("start:\n| (a|2:a)(b|)(b|)\n")
    found = Parser(grammar, "start").derivations("ab")
    assert sorted(math.exp(log_probability) for log_probability, _ in found) == pytest.approx(
        [1 / 12, 1 / 12, 1 / 6, 1 / 6]
    )


def test_ambiguity_that_leads_nowhere_does_not_explode():
    grammar = read_grammar("start:\n| " + "(a|aa|)" * 40 + "z\n")
    started = time.process_time()
    assert Parser(grammar, "start").derivations("a" * 60) == []
    assert time.process_time() - started < 5


def test_a_rule_between_two_variables_renormalises_whichever_comes_first():
    text = "n = 1, 2, 3\n$a: n\n$b: n\nstart:\n| {a}{b}\n| {b}{a}!\n"
    grammar = read_grammar(text, rules={("b", "a"): lambda b, a: (a[""], b[""]) != ("1", "2")})
    assert probability(grammar, "11") == pytest.approx(1 / 2 * 1 / 3 * 1 / 2)
    assert probability(grammar, "12") == 0
    assert probability(grammar, "22") == pytest.approx(1 / 2 * 1 / 3 * 1 / 3)
    assert probability(grammar, "21!") == 0
    assert probability(grammar, "31!") == pytest.approx(1 / 2 * 1 / 3 * 1 / 3)


def test_a_variable_can_be_unlike_another_in_one_form():
    words = Domain("n", tuple({"": word, "length": str(len(word))} for word in ("fox", "owl", "bear")))
    grammar = read_grammar("$a: n\n$b: n != a.length\nstart:\n| {a} {b}\n", {"n": words})
    assert probability(grammar, "fox owl") == 0
    assert probability(grammar, "fox bear") == pytest.approx(1 / 3)
    assert probability(grammar, "bear owl") == pytest.approx(1 / 3 * 1 / 2)


def test_a_forgotten_value_can_be_bound_again():
    grammar = read_grammar("n = 1, 2\n$a: n\nstart:\n| {a}{a}{!a}{a}\n")
    assert probability(grammar, "112") == pytest.approx(1 / 4)
    assert probability(grammar, "122") == 0


def test_labels_stand_in_the_bindings():
    grammar = read_grammar("start:\n| {plot=one}x\n| {plot=two}y\n")
    [(_, values)] = Parser(grammar, "start").derivations("y")
    assert grammar.bindings(values) == {"plot": "two"}


def test_no_value_left_is_an_error_of_its_own():
    grammar = read_grammar("n = 1, 2\n$a: n\n$b: n\nstart:\n| {a}{b}\n", rules={("b", "a"): lambda b, a: False})
    with pytest.raises(DeadEndError):
        Sampler(grammar, "start").sample(random.Random(0))


@pytest.mark.parametrize(
    ("word", "article", "plural"),
    [("fox", "a fox", "foxes"), ("owl", "an owl", "owls"), ("pony", "a pony", "ponies"), ("toy", "a toy", "toys")],
)
def test_forms_of_a_noun(word, article, plural):
    assert noun(word) == {"": word, "a": article, "s": plural}


@pytest.mark.parametrize(
    "text",
    [
        "start:\n| (a|b\n",
        "start:\n| a)\n",
        "start:\n| [a)\n",
        "start:\n| <missing>\n",
        "start:\n| <start>\n",
        "start:\n| a\nstart:\n| b\n",
        "words = a, a\nstart:\n| <words>\n",
        "what is this",
    ],
)
def test_a_grammar_that_makes_no_sense_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        read_grammar(text)
