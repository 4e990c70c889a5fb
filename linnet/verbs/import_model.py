"""`linnet import`: a published model as a folder that is tuned, chatted with and looked into like a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from linnet.console import count_text, emit, say, status
from linnet.settings import parse_flags


@dataclass(frozen=True, kw_only=True)
class Import:
    """Make a published model one of Linnet's: GPT-2, Llama, Qwen2, Qwen3, Mistral and what shares their layout. Its
    tokenizer and chat template come with it, and it computes what it computes in `transformers`.

    Example: linnet import hf:HuggingFaceTB/SmolLM2-135M-Instruct --run models/smollm2
    """

    model: Positional[str]
    """a folder with config.json, model.safetensors and tokenizer.json, or hf:OWNER/NAME[@REVISION] on the hub"""
    run: Path
    """the folder to make"""
    template: Literal["own", "none"] = "own"
    """own: with its chat template, if it has one; none: without it"""
    context: int | None = None
    """longest context in tokens, if it should be shorter than the model's own: a chat takes less memory then"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> None:
    """Imports the model, and says what came."""
    with status("loading PyTorch ..."):
        args = parse_flags(Import, argv, "linnet import")
        from linnet.exchange.importing import import_model
        from linnet.model.costs import parameter_count
    with status("reading the model ..."):
        found = import_model(args.model, args.run, template=args.template == "own", context=args.context)
    count = parameter_count(found.config)
    if args.json:
        emit(
            {
                "path": str(found.path),
                "from": found.source,
                "family": found.family,
                "parameters": count,
                "context": found.config.block_size,
                "vocab_size": found.config.vocab_size,
                "numbers": found.numbers,
                "chats": found.chats,
            }
        )
        return
    say(
        f"{found.path}: {found.source} ({found.family}), {count_text(count)} parameters in {found.numbers}, context "
        f"{found.config.block_size:,} tokens"
    )
    if found.lost_bytes:
        say(
            f"note: its vocabulary has no token for {len(found.lost_bytes)} of the bytes that texts are made of; what "
            "holds them is left out, as `transformers` does it"
        )
    verb = f"chat {found.path}" if found.chats else f'generate {found.path} --prompt "Once"'
    print(f"next: linnet {verb}")
