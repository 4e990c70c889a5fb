"""Facts as the page shows them: sentences, tables and pictures, still without a tag of HTML but for the pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from linnet.console import count_of, count_text, duration_text, size_text
from linnet.evaluate.counting import verdict
from linnet.model.costs import flops_per_token, parameter_table
from linnet.report.exams import exams
from linnet.report.facts import PageFacts, baselines_of
from linnet.report.writing import spread
from linnet.run.rows import number

Row = tuple[str, str]

EVALUATIONS = 16
"""lines of the table of evaluations"""


def headline(facts: PageFacts) -> str:
    """What the model is and what it learned from, in plain words; the figures stand below it, each once."""
    text = f"A small language model{' that chats' if facts.chats else ''}"
    size = number(facts.splits.get("train", {}), "bytes")
    text += "" if size is None else f". It learned from {size_text(size)} of text"
    if not facts.reached.keys() & {"loss", "accuracy"}:
        text += ". How well it does on text that it has never seen was not measured"
    return text + "."


def worth(facts: PageFacts) -> dict[str, Any]:
    """`rows` of bits per byte, the model's last, and `verdict`; empty where nothing stands beside the model's."""
    found, bits = facts.baselines, facts.reached.get("bits_per_byte")
    if found is None or bits is None:
        return {}
    notes = [
        f"one of {count_of(found.distinct, 'different byte')}, all equally likely",
        "each byte as likely as it is frequent, whatever came before",
        f"what followed which {found.order - 1} bytes in {size_text(found.counted_bytes)} of training text, a static "
        f"Kneser-Ney {found.order}-gram",
    ]
    rows: list[dict[str, Any]] = [
        {"label": name, "value": value, "note": note} for (name, value), note in zip(found.named(), notes, strict=True)
    ]
    rows.append({"label": "this model", "value": bits, "note": "its best checkpoint"})
    said = verdict(bits, found)
    return {"rows": rows, "most": max(row["value"] for row in rows), "verdict": f"{said[0].upper()}{said[1:]}."}


def key_figures(facts: PageFacts) -> list[dict[str, str]]:
    """value, unit, what, and a sentence on how to read it."""
    reached = facts.reached
    found: list[tuple[float | None, str, str, str, str]] = []
    error, loss = reached.get("standard_error"), reached.get("loss")
    unit = "nats per token" if error is None else f"± {error:.3f} nats per token"
    found.append((loss, f"{loss or 0:.3f}", unit, "validation loss", "lower is better; of the best checkpoint"))
    perplexity = reached.get("perplexity")
    shown = "" if perplexity is None else f"{perplexity:,.1f}"
    unsure, size = "as unsure as if choosing among so many equal tokens", facts.model.vocab_size
    if perplexity is not None and perplexity > size:
        unsure = f"worse than a blind guess: that has {size:,}, one for each token of the vocabulary"
    found.append((perplexity, shown, "", "perplexity", unsure))
    bits = reached.get("bits_per_byte")
    beside = "lower is better; plain text has 8" if facts.baselines is None else "lower is better"
    found.append((bits, f"{bits or 0:.3f}", "bits per byte", "compression", beside))
    accuracy = reached.get("accuracy")
    shown = "" if accuracy is None else f"{accuracy:.1%}"
    found.append((accuracy, shown, "", "next tokens right", "its first guess, on unseen text"))
    found.append((facts.parameters, count_text(facts.parameters), "", "parameters", f"{facts.parameters:,} exactly"))
    tokens, step, seconds = facts.last("tokens"), facts.last("step"), facts.last("elapsed_s")
    steps = "" if step is None else f"in {step:,.0f} steps"
    found.append((tokens, count_text(tokens or 0), "tokens", "trained on", steps))
    found.append((seconds, duration_text(seconds or 0), "", "training time", "evaluations included"))
    speed = facts.tokens_per_s
    found.append((speed, f"{speed or 0:,.0f}", "tokens/s", "speed", "the log's median, evaluations not included"))
    return [
        {"value": shown, "unit": unit, "what": what, "hint": hint}
        for value, shown, unit, what, hint in found
        if value is not None
    ]


def evaluation_table(facts: PageFacts) -> list[dict[str, Any]]:
    """Lines of the table of evaluations, the best one marked and always among them."""
    chosen = spread(facts.evaluations, EVALUATIONS)
    if facts.best is not None and all(row is not facts.best for row in chosen):
        chosen = [row for row in facts.evaluations if row is facts.best or any(row is other for other in chosen)]
    return [
        {
            "step": _shown(row, "step", "{:,.0f}"),
            "tokens": count_text(number(row, "tokens") or 0),
            "time": duration_text(number(row, "elapsed_s") or 0),
            "loss": _shown(row, "val_loss", "{:.3f}"),
            "error": _shown(row, "val_standard_error", "{:.3f}"),
            "perplexity": _shown(row, "val_perplexity", "{:,.1f}"),
            "bits_per_byte": _shown(row, "val_bits_per_byte", "{:.3f}"),
            "accuracy": _shown(row, "val_accuracy", "{:.1%}"),
            "best": row is facts.best,
        }
        for row in chosen
    ]


def _shown(row: Mapping[str, Any], name: str, form: str) -> str:
    value = number(row, name)
    return "–" if value is None else form.format(value)


def next_tokens(facts: PageFacts) -> list[dict[str, Any]]:
    """Each prompt with its likeliest next tokens and their probabilities."""
    from linnet.tokenizers.pieces import visible

    given = facts.extra.get("next_tokens") or []
    found = []
    for table in [given] if isinstance(given, Mapping) else given:
        rows = [{"text": visible(str(text)), "share": float(share)} for text, share in table["tokens"]]
        found.append({"prompt": str(table["prompt"]), "rows": rows})
    return found


def evaluation(facts: PageFacts) -> dict[str, Any]:
    """`figures` as rows, without those that stand at the top of the page; `source`, the comparison with the built-in
    grammar; `exams`. Each empty if there is none."""
    found = facts.evaluation
    names = (
        ("loss", "loss", "{:.4f} nats per token"),
        ("perplexity", "perplexity", "{:,.2f}"),
        ("bits_per_byte", "bits per byte", "{:.4f}"),
        ("bits_per_char", "bits per character", "{:.4f}"),
        ("accuracy", "next tokens right", "{:.2%}"),
        ("tokens", "tokens scored", "{:,.0f}"),
    )
    rows: list[Row] = [("split", str(found["split"]))] if found.get("split") else []
    if found.get("checkpoint"):
        rows.append(("checkpoint", str(found["checkpoint"])))
    rows += [
        (label, form.format(value))
        for name, label, form in names
        if (value := number(found, name)) is not None and not _said_above(facts, name, value)
    ]
    if (beside := baselines_of(found)) is not None and beside != facts.baselines:
        others = ", ".join(f"{name} {value:.2f}" for name, value in beside.named())
        rows.append(("bits per byte without a model", others))
    if found.get("caution"):
        rows.append(("how far to trust them", str(found["caution"])))
    return {"figures": rows, "source": _source(found), "exams": exams(found)}


def _said_above(facts: PageFacts, name: str, value: float) -> bool:
    """Whether the figure at the top of the page is this one, up to its last digit."""
    known = facts.reached.get(name)
    return known is not None and math.isclose(known, value, rel_tol=5e-4)


def _source(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the model pays for a character beside what the grammar pays, in all and by kind of document."""
    given = found.get("source")
    compared = given if isinstance(given, dict) else {}
    whole = dict(compared)
    if number(whole, "source_bits_per_char") is None:
        whole["source_bits_per_char"] = found.get("source_bits_per_char")
    if number(whole, "model_bits_per_char") is None:
        whole["model_bits_per_char"] = found.get("bits_per_char")
    rows = []
    for label, part in (("all documents", whole), *((kind, compared.get(kind)) for kind in ("stories", "dialogues"))):
        if not isinstance(part, dict):
            continue
        model, source = number(part, "model_bits_per_char"), number(part, "source_bits_per_char")
        if model is None or source is None or source <= 0:
            continue
        gap = {"gap": f"{model - source:+.3f}", "relative": f"{(model - source) / source:+.1%}"}
        count = number(part, "documents")
        name = label if count is None else f"{count:,.0f} {label.removeprefix('all ')}"
        rows.append({"label": name, "model": model, "source": source, **gap, "most": max(model, source)})
    return rows


def model_parts(facts: PageFacts) -> list[dict[str, Any]]:
    """Parameters by part."""
    return [
        {"label": name, "count": count, "share": count / facts.parameters}
        for name, count in parameter_table(facts.model).items()
        if count
    ]


def model_rows(facts: PageFacts) -> list[Row]:
    """The model in a few lines."""
    model = facts.model
    heads = f"{model.n_head} of size {model.head_size}"
    if model.kv_heads != model.n_head:
        heads += f", {model.kv_heads} for keys and values"
    return [
        ("blocks", str(model.n_layer)),
        ("width", str(model.n_embd)),
        ("heads", heads),
        ("context", f"{model.block_size:,} tokens"),
        ("vocabulary", f"{model.vocab_size:,} tokens"),
        ("training cost", f"{flops_per_token(model) / 1e6:,.1f} million operations per token"),
    ]


def data_card(facts: PageFacts) -> dict[str, Any]:
    """`sources`, `splits` and `rows` of the prepared data."""
    data = facts.data
    if not data:
        return {}
    options, tokenizer = data.get("options") or {}, data.get("tokenizer") or {}
    rows: list[Row] = []
    if (documents := number(data, "documents")) is not None:
        rows.append(("documents", f"{documents:,.0f}"))
    dropped = number(data, "duplicates_dropped")
    if dropped is not None:
        rows.append(("exact duplicates dropped", f"{dropped:,.0f}"))
    for name, label in (
        ("rows_without_text", "rows without text, left out"),
        ("invalid_bytes_replaced", "bytes that were not UTF-8, replaced"),
        ("identity_pairs", "dialogues about the assistant itself, in training only"),
    ):
        if value := number(data, name):
            rows.append((label, f"{value:,.0f}"))
    rule = {
        "hash": "by content: a hash of each document decides, so equal documents are never on both sides",
        "tail": "the end of the text is held out",
    }
    if data.get("split"):
        rows.append(("how it is split", rule.get(str(data["split"]), str(data["split"]))))
    if options.get("document_separator"):
        rows.append(("documents end at", repr(options["document_separator"])))
    size, kind = number(tokenizer, "vocab_size"), str(options.get("tokenizer", ""))
    if size is not None:
        rows.append(("tokenizer", f"{kind + ', ' if kind else ''}{size:,.0f} tokens"))
    if (learned := number(tokenizer, "learned_from_characters")) is not None:
        rows.append(("learned from", f"{learned:,.0f} characters of training text"))
    rows += [(f"licence of {source.get('name')}", _origin(source)) for source in facts.sources if source.get("dataset")]
    return {"sources": [_source_row(source) for source in facts.sources], "splits": _split_rows(facts), "rows": rows}


def _source_row(source: Mapping[str, Any]) -> dict[str, str]:
    size = number(source, "bytes")
    return {
        "name": str(source.get("name", "")),
        "kind": str(source.get("kind", "")),
        "bytes": "" if size is None else size_text(size),
        "sha256": str(source.get("sha256") or "")[:12],
    }


def _origin(source: Mapping[str, Any]) -> str:
    """The licence of a dataset, and which of its rows were read."""
    revision = f", revision {str(source['revision'])[:12]}" if source.get("revision") else ""
    return f"{source.get('license') or 'its card names none'}; split {source.get('split')}{revision}"


def _split_rows(facts: PageFacts) -> list[dict[str, str]]:
    names = {"train": "training", "val": "validation", "test": "test"}
    forms = {"documents": "{:,.0f}", "bytes": "{:,.0f}", "characters": "{:,.0f}", "tokens": "{:,.0f}"}
    return [
        {"name": names.get(name, name)} | {key: _shown(split, key, form) for key, form in forms.items()}
        for name, split in facts.splits.items()
    ]


def tokenizer_rows(sample: Mapping[str, Any]) -> list[Row]:
    """The compression of a sample of the text."""
    split = {"val": "validation", "train": "training"}.get(sample["split"], sample["split"])
    return [
        ("measured on", f"{size_text(sample['bytes'])} of {split} text"),
        ("bytes per token", f"{sample['bytes_per_token']:.2f}"),
        ("characters per token", f"{sample['chars_per_token']:.2f}"),
        ("of the vocabulary in use there", f"{sample['vocab_used_fraction']:.1%}"),
    ]
