"""What the docs say is true: the command line's page is the program's own help."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_command_lines_page_is_current() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from make_cli import page
    finally:
        sys.path.pop(0)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == page(), "run `make docs`"


def test_the_references_hold_all_papers_of_the_documents_and_of_the_code() -> None:
    page = (ROOT / "docs" / "references.md").read_text(encoding="utf-8")
    named = {
        "1706.03762": "Attention Is All You Need",
        "1409.0473": "Neural Machine Translation by Jointly Learning to Align and Translate",
        "2305.07759": "TinyStories: How Small Can Language Models Be",
        "2005.14165": "Language Models are Few-Shot Learners",
        "1607.06450": "Layer Normalization",
        "1606.08415": "Gaussian Error Linear Units",
        "1711.05101": "Decoupled Weight Decay Regularization",
        "2205.14135": "FlashAttention",
        "language_models_are_unsupervised_multitask_learners.pdf": "Language Models are Unsupervised Multitask",
        "jalammar.github.io/illustrated-transformer": "The Illustrated Transformer",
        "github.com/karpathy/nanoGPT": "nanoGPT",
        "en.wikipedia.org/wiki/Byte_pair_encoding": "Byte pair encoding",
        "pytorch.org/tutorials/beginner/transformer_tutorial.html": "PyTorch",
        "huggingface.co/datasets/roneneldan/TinyStories": "roneneldan/TinyStories",
        "github.com/openai/tiktoken": "tiktoken",
    }
    for address, title in named.items():
        assert any(address in line and title in line for line in page.splitlines()), title
    files = [*(ROOT / "linnet").rglob("*.py"), *(ROOT / "linnet").rglob("*.toml")]
    cited = {id for file in files for id in re.findall(r"arXiv:(\d{4}\.\d{4,5})", file.read_text(encoding="utf-8"))}
    assert len(cited) > 20
    assert {id for id in cited if f"arxiv.org/abs/{id}" not in page} == set()


def templates(value: ast.AST) -> str:
    """A string of the code, `\0` where a value is put in."""
    if isinstance(value, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in value.values)
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def test_every_message_of_the_troubleshooting_page_is_one_of_the_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^> (.+)$", page, flags=re.MULTILINE)
    assert len(quoted) > 25
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in (ROOT / "linnet").rglob("*.py")]
    found = {templates(node) for tree in trees for node in ast.walk(tree)}
    told = [text for text in found if len(text.replace("\0", "")) >= 20]
    patterns = [re.compile(".+".join(map(re.escape, text.split("\0"))), re.DOTALL) for text in told]
    unknown = [message for message in quoted if not any(pattern.fullmatch(message) for pattern in patterns)]
    assert unknown == []
