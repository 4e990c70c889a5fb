"""Models beside each other: only on the same text, and by bits per byte where their tokens differ."""

from pathlib import Path
from typing import Any

from linnet.compare import ranked, verdict
from linnet.run.beside import different_tokens, on_same_texts
from linnet.run.summary import Summary


def scored(key: str, bits: float, **more: Any) -> dict[str, Any]:
    return {"name": f"{key}.txt", "key": key, "bits_per_byte": bits, "loss": 2 * bits, "standard_error": 0.1} | more


def summary(name: str, **facts: Any) -> Summary:
    return Summary(name=name, path=Path(name), state="finished", **facts)


PUBLISHED = Summary(
    name="published",
    path=Path("published"),
    state="imported",
    text="held",
    bits_per_byte=0.8,
    val_loss=2.4,
    vocabulary="other",
    scored=[scored("novel", 0.9, bytes=1500), scored("held", 0.8)],
)
MINE = summary("mine", text="held", bits_per_byte=1.0, bits_per_byte_error=0.02, val_loss=2.0, vocabulary="own")


def test_a_text_stands_with_all_that_were_scored_or_validated_on_it_the_best_first():
    novel, held = on_same_texts([MINE, PUBLISHED, summary("third", scored=[scored("held", 0.9)])])
    assert [row[:2] for row in held.models] == [("published", 0.8), ("third", 0.9), ("mine", 1.0)]
    assert held.models[2][2] == 0.02
    assert (
        str(held) == "bits per byte of held.txt: published 0.8000 ± 0.0500, third 0.9000 ± 0.0500, mine 1.0000 ± 0.0200"
    )
    assert str(novel).startswith("bits per byte of novel.txt (1.5 kB): published 0.9000 ± 0.0500; no other was scored")
    assert novel.as_dict()["models"] == [{"name": "published", "bits_per_byte": 0.9, "error": 0.05}]


def test_one_model_stands_once_though_it_was_both_scored_and_validated():
    (held,) = on_same_texts([summary("mine", text="held", bits_per_byte=1.0, scored=[scored("held", 1.1)])])
    assert held.models == [("mine", 1.1, 0.05)]


def test_other_tokens_are_noticed_on_one_text_alone():
    assert different_tokens([MINE, PUBLISHED])
    assert not different_tokens([MINE, summary("next", text="held", vocabulary="own")])
    assert not different_tokens([MINE, summary("next", text="elsewhere", vocabulary="other")])


def test_bits_decide_not_losses_where_tokens_differ():
    assert [run.name for run in ranked([MINE, PUBLISHED])] == ["published", "mine"]
    ahead = verdict(
        ranked([MINE, summary("b", text="held", bits_per_byte=0.8, bits_per_byte_error=0.01, val_loss=3.0)])
    )
    assert ahead is not None
    assert (ahead.first, ahead.unit) == ("b", "bits/byte")
