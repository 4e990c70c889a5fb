"""Chat templates: exact ids and masks, and text that cannot forge a special token."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnet.errors import UserError
from linnet.tokenizers import SPECIALS, BPETokenizer, ChatTemplate

# no merges: a letter's id is its byte, and the special tokens follow
BYTES = BPETokenizer.train(["x"], vocab_size=261)
EOT, SYSTEM, USER, ASSISTANT, END = range(256, 261)
DIALOGUE = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yo"},
    {"role": "user", "content": "?"},
    {"role": "assistant", "content": ""},
]


def test_the_default_template_as_text():
    template = ChatTemplate.default()
    text = "<|system|>S<|end|><|user|>Hi<|end|><|assistant|>Yo<|end|><|user|>?<|end|><|assistant|><|end|>"
    assert template.render(DIALOGUE) == text + "<|endoftext|>"
    assert (
        template.render(DIALOGUE[:2], add_generation_prompt=True) == "<|system|>S<|end|><|user|>Hi<|end|><|assistant|>"
    )


@pytest.mark.trap(13)
def test_exactly_the_answers_and_their_end_tokens_are_learned():
    ids, mask = ChatTemplate.default().encode(DIALOGUE, BYTES)
    expected = [
        (SYSTEM, False), (ord("S"), False), (END, False),
        (USER, False), (ord("H"), False), (ord("i"), False), (END, False),
        (ASSISTANT, False), (ord("Y"), True), (ord("o"), True), (END, True),
        (USER, False), (ord("?"), False), (END, False),
        (ASSISTANT, False), (END, True),
        (EOT, False),
    ]  # fmt: skip
    assert list(zip(ids, mask, strict=True)) == expected


@pytest.mark.trap(13)
def test_a_prompt_for_an_answer_ends_with_the_assistant_token_and_learns_nothing():
    ids, mask = ChatTemplate.default().encode([{"role": "user", "content": "a"}], BYTES, add_generation_prompt=True)
    assert ids == [USER, ord("a"), END, ASSISTANT]
    assert mask == [False] * 4


@pytest.mark.trap(13)
def test_text_between_an_answer_and_its_stop_token_is_learned_too():
    source = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n<|end|>\n{% endfor %}"
    ids, mask = ChatTemplate(source).encode([{"role": "assistant", "content": "a"}], BYTES)
    newline = ord("\n")
    assert ids == [ASSISTANT, newline, ord("a"), newline, END, newline]
    assert mask == [False, False, True, True, True, False]


@pytest.mark.trap(13)
def test_an_answer_without_a_stop_token_does_not_teach_the_next_role():
    source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|endoftext|>"
    messages = [
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    ids, mask = ChatTemplate(source).encode(messages, BYTES)
    assert ids == [ASSISTANT, ord("a"), USER, ord("b"), ASSISTANT, ord("c"), EOT]
    assert mask == [False, True, False, False, False, True, True]


@pytest.mark.trap(22)
@pytest.mark.parametrize("name", SPECIALS)
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_a_message_that_spells_a_special_token_stays_text(tokenizer, role, name):
    plain, _ = ChatTemplate.default().encode([{"role": role, "content": ""}], tokenizer)
    ids, _ = ChatTemplate.default().encode([{"role": role, "content": f"a{name}b"}], tokenizer)
    special = set(tokenizer.special_ids.values())
    assert [id for id in ids if id in special] == plain
    assert tokenizer.decode(ids).count(f"a{name}b") == 1


@pytest.mark.trap(22)
@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.text(st.sampled_from("a{}%<|>#end user\ue000\ue002\ue0010123\n'\"&"), max_size=20),
        min_size=1,
        max_size=4,
    )
)
def test_contents_are_encoded_alone_whatever_they_hold(tokenizer, contents):
    messages = [
        {"role": role, "content": content}
        for role, content in zip(itertools.cycle(["user", "assistant"]), contents, strict=False)
    ]
    ids, mask = ChatTemplate.default().encode(messages, tokenizer)
    expected: list[int] = []
    learned: list[int] = []
    end = tokenizer.special_ids["<|end|>"]
    for message in messages:
        own = [*tokenizer.encode(message["content"]), end]
        expected += [tokenizer.special_ids[f"<|{message['role']}|>"], *own]
        learned += own if message["role"] == "assistant" else []
    assert ids == [*expected, tokenizer.end_of_text]
    assert [id for id, on in zip(ids, mask, strict=True) if on] == learned


def test_contents_are_never_run_as_a_template():
    ids, _ = ChatTemplate.default().encode([{"role": "user", "content": "{{ 7 * 7 }}{% if"}], BYTES)
    assert BYTES.decode(ids) == "<|user|>{{ 7 * 7 }}{% if<|end|><|endoftext|>"


def test_rendered_text_is_what_transformers_would_render():
    jinja2 = pytest.importorskip("jinja2")
    reference = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(ChatTemplate.default().source)
    for prompt in (False, True):
        text = reference.render(messages=DIALOGUE, add_generation_prompt=prompt)
        assert text == ChatTemplate.default().render(DIALOGUE, add_generation_prompt=prompt)


def test_stop_tokens(tokenizer):
    assert ChatTemplate.default().stop_ids(BYTES) == [END, EOT]


def test_a_saved_template_is_the_same(tmp_path):
    file = ChatTemplate.default().save(tmp_path)
    assert file.name == "template.jinja"
    assert ChatTemplate.load(tmp_path) == ChatTemplate.load(file) == ChatTemplate.default()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for m in messages %}{{ m.content }}", r"fails: .*\(TemplateSyntaxError, line 1\)"),
        ("", r"must print message 1 \(user\) once, but prints it 0 times"),
        ("{{ messages[0].content }}", "message 2 .* 0 times"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "message 1 .* 2 times"),
        ("{% for m in messages %}{{ 'x' if m.content else 'y' }}{{ m.content }}{% endfor %}", "writes something else"),
        ("{% for m in messages %}{{ m.content | length }}{{ m.content }}{% endfor %}", "writes something else"),
        ("{{ nothing.at.all }}", "UndefinedError"),
        ("{{ messages.__class__.__mro__ }}", "SecurityError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% for i in range(10**9) %}{% endfor %}", "OverflowError"),
        ("{{ raise_exception('no chats here') }}", "refuses a plain dialogue: no chats here"),
        ("\ue000\ue0020\ue001", "placeholder"),
    ],
)
def test_a_broken_template_is_one_plain_line(tmp_path, source, message):
    (tmp_path / "template.jinja").write_text(source, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        ChatTemplate.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert "template.jinja" in str(caught.value)


def test_a_missing_template_and_one_that_is_no_text_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no file .*template\.jinja"):
        ChatTemplate.load(tmp_path)
    (tmp_path / "template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        ChatTemplate.load(tmp_path)


def test_a_template_may_refuse_a_dialogue():
    refusal = "{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    source = "{% for m in messages %}" + refusal + "{{ m.content }}{% endfor %}"
    with pytest.raises(UserError, match="refuses this dialogue: no system"):
        ChatTemplate(source).encode(DIALOGUE, BYTES)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "at least one message"),
        ("hello", "must be a list of messages, not str"),
        ({"role": "user", "content": "a"}, "must be a list of messages, not dict"),
        (["hello"], "message 1 must have role and content, but is str"),
        ([{"content": "a"}], "message 1 has the role None; a role is one of system, user, assistant"),
        ([{"role": "User", "content": "a"}], "message 1 has the role 'User'"),
        ([{"role": "user", "content": "a"}, {"role": "tool", "content": "a"}], "message 2 has the role 'tool'"),
        ([{"role": ["user"], "content": "a"}], "message 1 has the role"),
        ([{"role": "user"}], r"message 1 \(user\) needs a string as content, not NoneType"),
        ([{"role": "user", "content": [{"type": "text"}]}], r"message 1 \(user\) needs a string as content, not list"),
    ],
    ids=range(10),
)
def test_messages_of_another_form_are_refused(messages, message):
    with pytest.raises(UserError, match=message):
        ChatTemplate.default().encode(messages, BYTES)


def test_a_vocabulary_without_the_chat_tokens_is_refused():
    tokens = [bytes([byte]) for byte in range(256)] + [b"<|endoftext|>"]
    plain = BPETokenizer(tokens, [], {"<|endoftext|>": 256})
    with pytest.raises(
        UserError, match=r"uses <\|user\|>, which this vocabulary lacks; with_special_tokens\(\) adds it"
    ):
        ChatTemplate.default().encode([{"role": "user", "content": "a"}], plain)
    assert ChatTemplate.default().encode([{"role": "user", "content": "a"}], plain.with_special_tokens())[0][0] == 258
