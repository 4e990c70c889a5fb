"""The page: true to the run's files, self-contained, and safe whatever was written into it."""

import math
import re
import tomllib
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from fake_run import BATCH, BLOCK, MakeRun, contrast, early_metrics, metrics, sample

from linnet.data import Prepared
from linnet.errors import UserError
from linnet.evaluate.counting import split_baselines
from linnet.files import write_json
from linnet.report import write_report
from linnet.report.facts import PageFacts
from linnet.report.limits import limits
from linnet.report.origin import settings
from linnet.report.page import headline
from linnet.report.render import PICTURE
from linnet.report.writing import spread, timeline, with_exam_notes
from linnet.run import Run
from linnet.settings import RECIPES

VOID = {"meta", "link", "br", "img", "hr", "input", "source"}
LOADING = {"src", "srcset", "href", "xlink:href", "data", "poster", "action", "background"}
EVALUATION = {
    "split": "val",
    "loss": 2.0631,
    "perplexity": 7.87,
    "accuracy": 0.4521,
    "bits_per_byte": 0.8217,
    "bits_per_char": 0.8233,
    "tokens": 19_266,
    "source_bits_per_char": 0.712,
    "source": {"documents": 86, "model_bits_per_char": 0.801, "source_bits_per_char": 0.712},
    "exam": {
        "accuracy": 0.75,
        "right": 3,
        "total": 4,
        "categories": {"pet_name": {"right": 3, "total": 4, "accuracy": 0.75}},
        "wrong": [{"kind": "pet_name", "question": "Which <i>pet?", "reply": "none", "expected": "Rex"}],
    },
}


class Page(HTMLParser):
    """Elements, text and the balance of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(autouse=True)
def quick_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take most of a page's time; they are drawn for the tests that are about them."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr("linnet.report.render._picture", lambda *ignored: "")


@pytest.fixture
def pictures() -> None:
    """Asks for real pictures."""


def page_of(run: Run, extra: dict[str, Any] | None = None) -> Page:
    path = write_report(run, extra)
    assert path == run.path / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


@pytest.mark.usefixtures("pictures")
def test_the_page_loads_nothing(make_run: MakeRun):
    run = make_run()
    write_json(run.path / "evaluation.json", EVALUATION)
    page = page_of(run)
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert "http" not in html.replace("http-equiv", "")
    assert not re.search(r"@import|url\((?!#)", html)
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "form")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in LOADING:
                assert (value or "").startswith(("#", "data:")), (tag, name, value)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in (policy or "")
    assert len(html) < 400_000
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_numbers_are_those_of_the_metrics(make_run: MakeRun):
    rows = metrics()
    run = make_run(rows)
    text = page_of(run).text
    best = min((row for row in rows if row["kind"] == "eval"), key=lambda row: row["val_loss"])
    assert best["step"] == 800  # by hand: the loss rises after 80 % of the run
    marked = re.findall(r'<tr class="best"><td>([\d,]+)', (run.path / "report.html").read_text(encoding="utf-8"))
    assert marked == ["800"]
    assert f"{best['val_loss']:.3f} ± 0.020 nats per token" in text
    assert f"{best['val_perplexity']:,.1f} perplexity" in text
    assert f"{best['val_bits_per_byte']:.3f} bits per byte" in text
    assert f"{best['val_accuracy']:.1%} next tokens right" in text
    assert "64k tokens trained on in 1,000 steps" in text
    assert "2 min 30 s training time" in text
    assert "20,510 tokens/s" in text  # the median of 20,020 .. 21,000
    for row in rows:
        if row["kind"] == "eval":
            assert f"{row['val_loss']:.3f} 0.020 {row['val_perplexity']:,.1f}" in text


BESIDE = {
    "guessing": 5.781,
    "letters": 4.61,
    "counting": 3.075,
    "order": 7,
    "counted_bytes": 5700,
    "scored_bytes": 300,
    "distinct": 55,
}


@pytest.mark.usefixtures("pictures")
def test_the_loss_stands_beside_guessing_letters_and_counting(make_run: MakeRun):
    run = make_run()
    write_json(run.path / "evaluation.json", {**EVALUATION, "split": "val", "baselines": BESIDE})
    facts = PageFacts.of(run)
    text = page_of(run).text
    bits = facts.reached["bits_per_byte"]
    assert "guessing 5.781 letter frequencies 4.610 counting 3.075 this model " + f"{bits:.3f}" in text
    assert f"Better than all three, with {1 - bits / 3.075:.0%} fewer bits than counting" in text
    # 3.075 bits for a byte at the model's own 2.5 nats per token for each bit per byte
    assert facts.counting_loss == pytest.approx(3.075 * facts.reached["loss"] / bits)
    assert "counting steps of" not in text  # the line of counting has its name in the picture, its figure here alone


def test_what_stands_beside_a_loss_is_computed_where_no_evaluation_has_it(make_run: MakeRun, data: Prepared):
    expected = split_baselines(data.split("train"), data.split("val"), data.tokenizer())
    run = make_run()
    assert PageFacts.of(run).baselines == expected
    for evaluation in (
        {"split": "val", "baselines": {**BESIDE, "counting": "three"}},
        {"split": "test", "baselines": BESIDE},
        {"split": "val", "data": "others", "baselines": BESIDE},
    ):
        write_json(run.path / "evaluation.json", evaluation)
        assert PageFacts.of(run).baselines == expected
    manifest = run.manifest()
    manifest["data"]["path"] = "gone"
    write_json(run.manifest_file, manifest)
    assert PageFacts.of(run).baselines is None
    assert "What that is worth" not in page_of(run).text


def test_a_perplexity_beyond_the_vocabulary_is_no_choice_among_its_tokens(make_run: MakeRun):
    rows = [{"kind": "eval", "step": 1, "tokens": 64, "val_loss": math.log(2847), "val_bits_per_byte": 6.0}]
    text = page_of(make_run(rows)).text
    assert "2,847.0 perplexity worse than a blind guess: that has 300, one for each token of the vocabulary" in text
    assert "equal tokens" not in text


def test_the_limits_are_computed(make_run: MakeRun):
    run = make_run()
    facts = PageFacts.of(run)
    said = dict(limits(facts))
    train = facts.splits["train"]
    epochs = 800 * BATCH * BLOCK / train["tokens"]
    assert (
        f"This model has seen each training document {epochs:.1f} times, on average."
        in said["How often it read its text"]
    )
    assert f"the run went on to {epochs * 1.25:.1f} times" in said["How often it read its text"]
    assert "lowest at step 800" in said["Learning by heart"]
    assert "risen to" in said["Learning by heart"]
    assert f"{train['documents']} documents" in said["What it knows"]
    assert "All letters in a sample of that text are Latin" in said["What it knows"]
    assert "not measured" in said["Whether it copies"]
    assert "It sees 16 tokens at a time, about" in said["How much it remembers"]
    assert "seed 7" in said["How sure these figures are"]
    assert "invented" in said["It makes things up"]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(20, "% of its training documents, once"), (63, "each training document once"), (126, "2.0 times")],
)
def test_epochs_in_words(make_run: MakeRun, steps: int, expected: str):
    run = make_run([{"kind": "eval", "step": steps, "tokens": steps * 64, "val_loss": 3.0}])
    facts = PageFacts.of(run)
    facts.splits["train"]["tokens"] = 63 * BATCH * BLOCK
    assert expected in dict(limits(facts))["How often it read its text"]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([3.0, 2.5, 2.0], "still falling"),
        ([3.0, 2.001, 2.0], "levelled off"),
        ([3.0, 2.0, 2.03], "levelled off"),
        ([3.0, 2.0, 2.2], "learned its training text by heart"),
        ([], "never evaluated"),
    ],
)
def test_overfitting_is_told_from_the_evaluations(make_run: MakeRun, losses: list[float], expected: str):
    rows = [
        {"kind": "eval", "step": step, "tokens": 64 * step, "val_loss": loss, "val_standard_error": 0.02}
        for step, loss in enumerate(losses, start=1)
    ]
    assert expected in dict(limits(PageFacts.of(make_run(rows))))["Learning by heart"]


def test_what_a_user_or_a_model_wrote_is_only_text(make_run: MakeRun):
    attack = "<script>alert(1)</script>"
    run = make_run(samples=[{"step": 100, "prompt": "<b>", "text": f"<b>{attack}"}], name='x"><img src=1 onerror=a()>&')
    manifest = run.manifest()
    manifest["command"] = ["linnet", attack]
    manifest["machine"]["processor"] = manifest["versions"]["torch"] = attack
    manifest["data"]["manifest"]["sources"][0]["name"] = attack
    manifest["data"]["manifest"]["options"]["document_separator"] = "</style><script>"
    write_json(run.manifest_file, manifest)
    write_json(run.path / "evaluation.json", {**EVALUATION, "split": attack})
    extra = {
        "samples": [attack, {"prompt": "<svg onload=a()>", "text": "<svg onload=a()> and on"}],
        "conversation": [{"role": "user", "content": attack}, {"role": attack, "content": "</div>"}],
        "next_tokens": {"prompt": attack, "tokens": [(attack, 0.5)]},
    }
    page = page_of(run, extra)
    assert {tag for tag, _ in page.tags} & {"script", "img", "svg", "i"} == {"i"}  # the bars
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count(attack) >= 9
    assert 'x"><img src=1 onerror=a()>&' in page.text
    assert "Which <i>pet?" in page.text


def test_characters_that_no_page_may_hold_are_replaced(make_run: MakeRun):
    run = make_run(samples=[{"step": 1, "text": "a\x00b\ud83dc\u2028d"}])
    page_of(run)
    data = (run.path / "report.html").read_bytes()
    assert "a�b�c".encode() in data


@pytest.mark.usefixtures("pictures")
def test_a_run_with_nothing_but_its_config_has_a_page(make_run: MakeRun):
    run = make_run()
    for path in run.path.iterdir():
        if path.name != "config.toml":
            path.unlink()
    page = page_of(run)
    assert "Nothing was logged yet" in page.text
    assert "parameters" in page.text
    assert "never evaluated" in page.text
    assert "None" not in page.text
    assert "nan" not in page.text.split()


@pytest.mark.parametrize("missing", ["metrics.jsonl", "samples.jsonl", "manifest.json", "tokenizer.json"])
def test_missing_pieces_are_left_out(make_run: MakeRun, missing: str):
    run = make_run()
    (run.path / missing).unlink()
    page_of(run)


@pytest.mark.usefixtures("pictures")
def test_values_that_are_no_numbers_do_not_show(make_run: MakeRun):
    nan = math.nan
    rows = [
        {"kind": "eval", "step": 5, "tokens": 320, "val_loss": 2.0, "val_standard_error": nan, "val_accuracy": None},
        {"kind": "train", "step": 6, "tokens": 384, "train_loss": nan},
        {"val_loss": 1.9},
    ]
    words = page_of(make_run(rows)).text.split()
    assert "nan" not in words
    assert "None" not in words


def test_a_damaged_evaluation_is_said_and_left_out(make_run: MakeRun, capsys: pytest.CaptureFixture[str]):
    run = make_run()
    (run.path / "evaluation.json").write_text("{")
    assert "Exam" not in page_of(run).text
    assert "evaluation.json is damaged" in capsys.readouterr().err


def test_evaluation_source_and_exam_are_shown(make_run: MakeRun):
    run = make_run()
    write_json(run.path / "evaluation.json", EVALUATION)
    text = page_of(run).text
    assert "2.0631 nats per token" in text  # of another evaluation than the one at the top of the page
    assert "86 documents 0.712 0.801 +0.089 +12.5%" in text
    assert "Exam: 75.0% right of 4 questions" in text
    assert "pet name 75.0% 3 of 4" in text
    assert "Rex" in text


def test_the_figure_of_the_whole_split_stands_in_where_no_document_was_compared(make_run: MakeRun):
    run = make_run()
    write_json(
        run.path / "evaluation.json", {"bits_per_char": 0.8, "source_bits_per_char": 0.5, "exam": {"accuracy": 1.0}}
    )
    assert "0.500 0.800 +0.300 +60.0%" in page_of(run).text


def test_samples_run_from_first_to_last_and_beyond_eight_they_are_folded(make_run: MakeRun):
    page = page_of(make_run(samples=[sample(step) for step in range(100, 1100, 100)]))
    steps = [int(step) for step in re.findall(r"upon step (\d+) a bird", page.text)]
    assert sorted(steps) == list(range(100, 1100, 100))  # each once
    assert steps[:8] == sorted(steps[:8])
    assert (steps[0], steps[7]) == (100, 1000)
    assert "2 more, between these" in page.text
    prompts = [attributes for tag, attributes in page.tags if attributes.get("class") == "prompt"]
    assert len(prompts) == 10


def test_the_page_shows_noise_turning_into_words(make_run: MakeRun):
    run = make_run(early_metrics(), samples=[{"step": 300, "prompt": "Once", "text": "Once the bird flew home."}])
    shown = timeline(PageFacts.of(run))["shown"]
    assert [row["when"][0] for row in shown] == [f"step {step}" for step in (0, 1, 3, 10, 30, 100, 300)]
    assert shown[0]["when"] == ["step 0", "validation loss 7.15", "0 of 2 words stand in its text"]  # xq, zk
    assert shown[-2]["when"][-1] == "4 of 4 words stand in its text"
    # the last is of the whole split, and the text is that of samples.jsonl
    assert shown[-1] == {
        "when": ["step 300", "after 45 s", "validation loss 1.91", "4 of 4 words stand in its text"],
        "prompt": "Once",
        "rest": " the bird flew home.",
    }
    assert [row["step"] for row in PageFacts.of(run).evaluations] == [150, 300]
    assert "How it learned to write" in page_of(run).text


EXAM = {
    "categories": {"sum": {"right": 0, "total": 28}, "name": {"right": 13, "total": 14}},
    "wrong": [
        {"kind": "sum", "question": "Can you tell me what is 7 plus 1?", "reply": "9", "expected": "8"},
        {"kind": "name", "question": "Who am I", "reply": "Tom", "expected": "Ben"},
    ],
}


def test_beside_a_right_sum_stands_that_the_exam_found_none(make_run: MakeRun):
    asked = ("Hello!", "What is 3 plus 4?", "Who am I?", "")
    talk = [
        {"role": role, "content": text} for question in asked for role, text in (("user", question), ("assistant", "7"))
    ]
    sums, names = (f"In the exam, questions of this kind: {count} right." for count in ("0 of 28", "13 of 14"))
    assert [message["note"] for message in with_exam_notes(talk, EXAM)] == ["", "", "", sums, "", names, "", ""]
    for nothing in (None, {}, {"categories": [], "wrong": [3, {"kind": "sum"}]}):
        assert not any(message["note"] for message in with_exam_notes(talk, nothing))
    run = make_run()
    write_json(run.path / "evaluation.json", {"exam": {"accuracy": 0.5, **EXAM}})
    text = page_of(run, {"conversation": talk}).text
    assert f"user What is 3 plus 4? assistant 7 {sums}" in text
    assert not re.search(r"\b(you|it|bot|its answer)\b ?:|its answer", text)  # one word for each speaker


def test_settings_are_folded_and_begin_with_what_differs_from_the_recipe(make_run: MakeRun):
    run = make_run()
    manifest = run.manifest()
    manifest["command"] = ["linnet", "train", "linnet-small"]
    write_json(run.manifest_file, manifest)
    found = settings(PageFacts.of(run))
    assert (found.recipe, found.named) == ("linnet-small", True)
    assert ("train.seed", "7") in [row[:2] for row in found.differing]
    recipe = tomllib.loads((RECIPES / "linnet-small.toml").read_text(encoding="utf-8"))
    assert ("model.n_embd", "16", str(recipe["model"]["n_embd"])) in found.differing
    html = (page_of(run), (run.path / "report.html").read_text(encoding="utf-8"))[1]
    assert (
        html.index("What differs from the recipe")
        < html.index("<summary>All settings</summary>")
        < html.index("[optim]")
    )
    manifest["command"] = ["linnet", "demo"]
    write_json(run.manifest_file, manifest)
    assert settings(PageFacts.of(run)).named is False
    assert "What differs from the nearest recipe" in page_of(run).text


def test_no_figure_at_the_top_stands_a_second_time(make_run: MakeRun):
    run = make_run()
    facts = PageFacts.of(run)
    names = ("loss", "perplexity", "bits_per_byte", "accuracy")
    write_json(run.path / "evaluation.json", {"split": "val", **{name: facts.reached[name] for name in names}})
    page_of(run)
    html = re.sub(
        r"<(details|style).*?</\1>", "", (run.path / "report.html").read_text(encoding="utf-8"), flags=re.DOTALL
    )
    html = html.replace(html[html.index("What that is worth") : html.index('<section id="writing">')], "")  # its bars
    top = html[html.index('<div class="figures">') : html.index("</header>")]
    figures = [figure for figure in re.findall(r"<b>([\d.,%k]+)", top) if len(figure) > 2]
    assert len(figures) >= 6
    for figure in figures:
        assert len(re.findall(rf"(?<![\d.,]){re.escape(figure)}(?![\d,]|\.\d)", html)) == 1, figure


def test_tables_scroll_and_the_model_is_a_picture_without_a_fixed_width(make_run: MakeRun):
    run = make_run()
    write_json(run.path / "evaluation.json", EVALUATION)
    page = page_of(run)
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert html.count("<table") == len(re.findall(r'<div class="scroll"><table', html)) > 5
    assert ".scroll { overflow-x: auto;" in html
    assert not re.search(r"<pre|[┌│└▼╮]", html)
    drawn = html[html.index('<div class="drawing"') : html.index("<h2>Data")]
    boxes = re.findall(r'<div class="part (\S+) (\S*)">.*?<span class="count">([\d,]*)</span>', drawn)
    assert {fill for fill, *_ in boxes} == {"embedding", "norm", "attention", "mlp", "step"}
    # parts on the stream once, those of a block once for each of the two layers: the whole model
    total = sum(int(count.replace(",", "") or 0) * (1 if where else 2) for _, where, count in boxes)
    assert total == PageFacts.of(run).parameters
    assert "token_embedding" in page.text


@pytest.mark.usefixtures("pictures")
def test_labels_have_eleven_pixels_on_a_phone(make_run: MakeRun):
    run = make_run()
    page_of(run)
    html = (run.path / "report.html").read_text(encoding="utf-8")
    found = re.findall(
        r"(?:font|font-size): ?(?:[a-z0-9]+ )*([\d.]+)px", "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    )
    sizes = [float(size) for size in found]
    assert sizes
    # of 390 pixels the page's edges take 2 x 14.4, a section's 2 x 17; units of a picture are 1/72 inch
    assert min(sizes) * (390 - 2 * 14.4 - 2 * 17) / (72 * PICTURE[0]) >= 11
    rems = [float(size) for size in re.findall(r"font-size: ([\d.]+)rem", html)]
    assert min(rems) * 16 >= 11


def test_words_can_be_read_on_every_ground_of_the_page(make_run: MakeRun):
    html = files("linnet.report").joinpath("templates/look.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", html, re.DOTALL)[:2]
    )
    for look in (light, light | dark):
        pairs = [("ink", fill) for fill in ("paper", "ground", "tint", "embedding", "norm", "attention", "mlp")]
        pairs += [("soft", ground) for ground in ("paper", "ground", "tint")]
        pairs += [("train", "paper"), ("train", "ground"), ("val", "paper"), ("other", "paper")]
        for ink, ground in pairs:
            assert contrast(look[ink], look[ground]) >= 4.5, (ink, ground)  # WCAG 2.2, 1.4.3


def test_extras_are_shown_and_unknown_ones_refused(make_run: MakeRun):
    run = make_run()
    extra = {
        "samples": [{"prompt": "The", "text": "The end."}],
        "conversation": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Good day."}],
        "next_tokens": [{"prompt": "Once", "tokens": [(" upon", 0.913), (" the", 0.02)]}],
        "memorisation": {"texts": 200, "verbatim_share": 0.015, "longest_overlap_words": {"max": 31, "median": 9}},
    }
    text = page_of(run, extra).text
    for expected in ("Good day.", "␣upon", "91.3%", "1.5% of 200 sampled texts", "training document is 31"):
        assert expected in text
    with pytest.raises(ValueError, match="unknown extra colour"):
        write_report(run, {"colour": 1})


def test_the_data_card_and_the_origin(make_run: MakeRun):
    run = make_run()
    text = page_of(run).text
    splits = run.manifest()["data"]["manifest"]["splits"]
    for split in splits.values():
        assert f"{split['bytes']:,} {split['characters']:,} {split['tokens']:,}" in text
    assert "exact duplicates dropped 0" in text
    assert "documents end at '#'" in text
    assert "linnet train --run 'my runs/songbird'" in text
    assert "2026-01-02 03:04:05 UTC" in text
    assert "A Processor, 2 cores" in text
    assert "torch 2.13.0" in text
    assert "batch_size 4" in text
    assert "sources stories.txt" in text  # of the data, not the recipe's builtin:stories
    assert "builtin:" not in text
    assert "linnet chat" not in text  # it was never shown dialogues


def test_the_two_figures_of_memory_are_told_apart(make_run: MakeRun):
    text = page_of(make_run()).text
    assert "memory of the machine 8.0 GB" in text
    assert "memory to train, measured 700.0 MB at most, Python and PyTorch counted" in text


def test_a_run_that_was_shown_dialogues_chats(make_run: MakeRun):
    run = make_run()
    run.template_file.write_text("template")
    assert "that chats" in headline(PageFacts.of(run))
    assert f"linnet chat {run.path}" in page_of(run).text


def test_a_page_that_cannot_be_written_is_one_line(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch):
    run = make_run()
    write_report(run)
    before = (run.path / "report.html").read_bytes()

    def full(source: str, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("linnet.files.os.replace", full)
    with pytest.raises(UserError, match="No space left"):
        write_report(run)
    assert (run.path / "report.html").read_bytes() == before


def test_spread_keeps_both_ends():
    assert spread(list(range(10)), 4) == [0, 3, 6, 9]
    assert spread([1, 2], 4) == [1, 2]
