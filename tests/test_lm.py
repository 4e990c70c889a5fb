"""`LM` and conversations, on tiny random models over the 256 bytes."""

import math
import random

import pytest
import torch

from linnet.errors import UserError
from linnet.generate.chat import Conversation, chat_prompt
from linnet.generate.sampling import Sampling
from linnet.lm import LM
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.tokenizers import BPETokenizer, ChatTemplate

torch.set_num_threads(1)
GREEDY = {"temperature": 0.0, "max_new_tokens": 12}


def make_lm(template: bool = True, block_size: int = 96) -> LM:
    tokenizer = BPETokenizer.train(["bird"], vocab_size=261)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = Transformer(ModelConfig(vocab_size=272, block_size=block_size, n_layer=2, n_head=2, n_embd=16))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0.0, 0.4)
            model.lm_head.weight[256:] *= 0.1  # endings are rare
    return LM(model.eval(), tokenizer, ChatTemplate.default() if template else None, "runs/tiny")


@pytest.fixture(scope="module")
def lm() -> LM:
    return make_lm()


def test_stream_joins_to_generate_and_the_prompt_is_not_repeated(lm):
    options = {"temperature": 1.0, "seed": 3, "max_new_tokens": 40}
    pieces = list(lm.stream("Once upon", **options))
    assert "".join(pieces) == lm.generate("Once upon", **options)
    assert all(pieces)
    assert len(pieces) > 1


def test_generate_equals_the_bare_definition(lm):
    ids = [lm.tokenizer.end_of_text, *lm.tokenizer.encode("Once")]
    said = []
    while len(said) < 12:
        with torch.inference_mode():
            token = lm.model(torch.tensor([ids + said]))[0, -1, : lm.tokenizer.vocab_size].argmax().item()
        if token in lm.tokenizer.special_ids.values():
            break
        said.append(token)
    assert lm.generate("Once", **GREEDY) == lm.tokenizer.decode(said)


def test_an_empty_prompt_begins_a_document(lm):
    assert lm.generate(**GREEDY) == lm.generate("", **GREEDY)


def test_an_empty_prompt_draws_text_first_where_a_dialogue_would_begin_with_a_role():
    lm = make_lm()
    specials = sorted(lm.tokenizer.special_ids.values())
    with torch.inference_mode():
        before = lm.model.hidden(torch.tensor([[lm.tokenizer.end_of_text]]))[0, -1]
        lm.model.lm_head.weight[specials] = 10 * before  # each of them likelier than all text together
    name, probability = lm.next_tokens(k=1)[0]
    assert name.startswith("<|")
    assert probability > 0.19
    options = {"temperature": 1.0, "seed": 1, "max_new_tokens": 1}
    assert all(lm.samples("", 6, **options))
    assert lm.generate("", temperature=0.0, max_new_tokens=1)
    assert lm.continuations(["", "Once"], **options)[0] == lm.generate("", **options)


def test_samples_begin_with_what_generate_says(lm):
    options = {"temperature": 1.0, "seed": 3, "max_new_tokens": 20}
    three = lm.samples("Once", 3, **options)
    assert three[0] == lm.generate("Once", **options)
    assert len(set(three)) == 3
    assert lm.samples("Once", 1, **options) == three[:1]


def test_prompts_of_unequal_lengths_are_continued_together(lm):
    prompts = ["", "Once upon a time", "A"]
    assert lm.continuations(prompts, **GREEDY) == [lm.generate(prompt, **GREEDY) for prompt in prompts]


def test_stop_texts_are_cut_off(lm):
    whole = lm.generate("Once", temperature=1.0, seed=5, max_new_tokens=60)
    stop = whole[7:10]
    cut = lm.generate("Once", temperature=1.0, seed=5, max_new_tokens=60, stop=stop)
    assert cut == whole[: whole.index(stop)]
    assert lm.samples("Once", 1, temperature=1.0, seed=5, max_new_tokens=60, stop=[stop, "zzz"]) == [cut]


def test_no_special_token_is_ever_text(lm):
    said = "".join(lm.samples("Once", 8, temperature=8.0, seed=1, max_new_tokens=80))
    assert "<|" not in said


def test_chat_streams_and_batches_say_the_same(lm):
    dialogues = [
        [{"role": "user", "content": "Hello"}],
        [{"role": "system", "content": "Sing."}, {"role": "user", "content": "A song, please"}],
    ]
    alone = [lm.chat(messages, **GREEDY) for messages in dialogues]
    assert ["".join(lm.stream_chat(messages, **GREEDY)) for messages in dialogues] == alone
    assert lm.replies(dialogues, **GREEDY) == alone


@pytest.mark.trap(25)
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_a_conversation_says_what_fresh_chats_say_turn_after_turn(lm, system):
    talk = lm.conversation(system, **GREEDY)
    for text in ("Hello", "What is your name, little bird?", "Sing of the old oak tree.", "Again!", "Bye"):
        expected = lm.chat([*talk.messages, {"role": "user", "content": text}], **GREEDY)
        assert talk.say(text) == expected
        assert talk.last_reply == expected
    ids, system_length = chat_prompt(lm.template, lm.tokenizer, talk.messages[:-1])
    assert len(ids) > lm.config.block_size
    assert system_length == (0 if system is None else 1 + len("Be brief.") + 2)


def test_a_reply_cut_short_is_kept_as_far_as_it_came(lm):
    talk = lm.conversation(temperature=1.0, seed=1, max_new_tokens=30)
    pieces = talk.stream("Hello")
    said = next(pieces) + next(pieces)
    pieces.close()
    assert talk.messages == [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": said}]


def test_a_system_prompt_too_long_leaves_the_conversation_as_it_was(lm):
    talk = Conversation(lm.model, lm.tokenizer, lm.template, Sampling(), [{"role": "system", "content": "x" * 90}])
    with pytest.raises(UserError, match="system prompt is 93 tokens"):
        talk.say("Hello")
    assert len(talk.messages) == 1


def test_score_is_the_mean_over_the_text_alone(lm):
    text = "Ünïcode birds."
    figures = lm.score(text)
    ids = [lm.tokenizer.end_of_text, *lm.tokenizer.encode(text)]
    with torch.inference_mode():
        logits = lm.model(torch.tensor([ids[:-1]]))[0]
    nats = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
    assert figures["tokens"] == len(ids) - 1 == 16
    assert figures["loss"] == pytest.approx(nats.mean().item(), rel=1e-5)
    assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"]))
    assert figures["bits_per_byte"] == pytest.approx(nats.sum().item() / math.log(2) / 16, rel=1e-5)
    assert figures["bits_per_char"] == pytest.approx(nats.sum().item() / math.log(2) / 14, rel=1e-5)
    assert figures["accuracy"] == (logits.argmax(-1) == torch.tensor(ids[1:])).float().mean().item()
    assert lm.score("A much longer text than the context of the model holds. " * 5)["tokens"] == 280


def test_next_tokens_are_the_likeliest_first(lm):
    found = lm.next_tokens("Once", k=300)
    assert len(found) == 261
    probabilities = [probability for _, probability in found]
    assert probabilities == sorted(probabilities, reverse=True)
    with torch.inference_mode():
        logits = lm.model(torch.tensor([[lm.tokenizer.end_of_text, *lm.tokenizer.encode("Once")]]))[0, -1, :261]
    assert found[0][0] == lm.tokenizer.piece(logits.argmax().item())
    assert {"<|end|>", "a"} <= {text for text, _ in found}
    assert len(lm.next_tokens("Once")) == 5


def test_nothing_touches_a_shared_random_stream(lm):
    before, python = torch.get_rng_state(), random.getstate()
    lm.generate("a", max_new_tokens=3)
    lm.score("abc")
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == python


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda lm: lm.generate("a", temprature=1), "unknown sampling option temprature; did you mean temperature"),
        (lambda lm: lm.generate("a", colour=1), "unknown sampling option colour; there are temperature, top_k"),
        (lambda lm: lm.generate("a", stop=3), "stop must be a tuple of texts"),
        (lambda lm: lm.generate(None), "a prompt must be a text, got NoneType"),
        (lambda lm: lm.chat([]), "at least one message"),
        (lambda lm: lm.chat([{"role": "assistant", "content": "hi"}]), "the last message is the assistant's"),
        (lambda lm: lm.chat([{"role": "poet", "content": "hi"}]), "a role is one of"),
        (lambda lm: lm.score(""), "no text to score"),
        (lambda lm: lm.next_tokens("a", k=0), "k must be at least 1"),
        (
            lambda lm: make_lm(template=False).chat([{"role": "user", "content": "hi"}]),
            "runs/tiny has no chat template",
        ),
    ],
)
def test_errors_say_what_to_do(lm, call, said):
    with pytest.raises(UserError, match=said):
        call(lm)


def test_a_tokenizer_of_another_run_is_refused(lm):
    small = Transformer(ModelConfig(vocab_size=100, n_layer=1, n_embd=8, n_head=2))
    with pytest.raises(UserError, match="the tokenizer has 261 ids, the model only 100"):
        LM(small, lm.tokenizer)
