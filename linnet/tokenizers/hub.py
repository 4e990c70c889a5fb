"""GPT-2's vocabulary from the Hugging Face hub, where there is a network."""

import tempfile
import urllib.request
from http.client import HTTPException
from pathlib import Path

from linnet.console import say
from linnet.errors import UserError
from linnet.tokenizers.bpe import BPETokenizer
from linnet.tokenizers.gpt2 import load_gpt2

REPOSITORY = "openai-community/gpt2"
FILES = ("vocab.json", "merges.txt")

TIMEOUT_S = 5
"""to wait for each answer of the hub"""


def gpt2_from_hub() -> BPETokenizer:
    """GPT-2's vocabulary, from the hub's cache on this machine or else downloaded; nothing stays on the disk.

    Raises:
        UserError: `huggingface_hub` is not installed, or the hub cannot be reached.
    """
    try:
        from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
    except ImportError:
        raise UserError(
            "GPT-2's vocabulary comes from the Hugging Face hub, and huggingface_hub is not installed"
            " (`pip install huggingface_hub`)"
        ) from None
    cached = [try_to_load_from_cache(REPOSITORY, name) for name in FILES]
    if all(isinstance(path, str) for path in cached):
        return load_gpt2(Path(str(cached[0])).parent)
    if constants.HF_HUB_OFFLINE:
        raise UserError("GPT-2's vocabulary is not in the Hugging Face hub's cache, and HF_HUB_OFFLINE is set")
    say("asking the Hugging Face hub for GPT-2's vocabulary")
    with tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            try:
                # not its own download: without a network that one tries five times, half a minute long, and it would
                # leave a copy in the user's cache folder
                with urllib.request.urlopen(hf_hub_url(REPOSITORY, name), timeout=TIMEOUT_S) as answer:
                    (Path(folder) / name).write_bytes(answer.read())
            except (OSError, HTTPException) as error:
                reason = (str(getattr(error, "reason", error)).splitlines() or [type(error).__name__])[0]
                raise UserError(f"GPT-2's vocabulary cannot be fetched from the Hugging Face hub ({reason})") from None
        return load_gpt2(folder)
