"""Which part of a text that outgrew the context the model still sees. Pure functions of lengths and ids; no torch."""

from linnet.errors import UserError


def dropped(length: int, system_length: int, block_size: int) -> int:
    """How many ids after the system prompt are no longer visible in a text of `length` ids.

    When the context is full, the system prompt and the newest half of the rest stay, and the text grows on from there.
    As a function of the length alone: whole halves are dropped, as few as make the rest fit. So a text that grows id by
    id keeps one window for half a context, in which a cache stays valid, and a text that comes at once gets the same.

    Raises:
        UserError: the system prompt takes more than half of the context.
    """
    if 2 * system_length > block_size:
        raise UserError(
            f"the system prompt is {system_length} tokens long; at most half of the context of {block_size} "
            "can be kept for it; shorten it"
        )
    room = block_size - system_length
    excess = length - block_size
    if excess <= 0:
        return 0
    half = room - room // 2
    return -(-excess // half) * half  # rounded up to whole halves


def document_begin(ids: list[int], document_token: int | None) -> int:
    """Where the last document of `ids` begins: at its last `document_token`; 0 without one, or where that is None."""
    if document_token is None or document_token not in ids:
        return 0
    return len(ids) - 1 - ids[::-1].index(document_token)


def visible(ids: list[int], system_length: int, block_size: int, begin: int = 0) -> list[int]:
    """The ids that the model reads to predict what follows `ids`: at most `block_size` of them, never none.

    Args:
        system_length: how many ids at the start are the system prompt, which stays when the context overflows.
        begin: where the document begins that is written, of a model that sees nothing before it (`document_begin`).
    Raises:
        UserError: the system prompt takes more than half of the context.
    """
    if begin:
        ids, system_length = ids[begin:], max(0, system_length - begin)
    gone = dropped(len(ids), system_length, block_size)
    return ids[:system_length] + ids[system_length + gone :] if gone else list(ids)


def check_fits(length: int, answer: int, system_length: int, block_size: int, positions: int) -> None:
    """
    Raises:
        UserError: a prompt of `length` ids is empty, its system prompt takes more than half of the context, or it has
            more ids with its `answer` than `positions`, where those are fewer than the context has.
    """
    if not length:
        raise UserError("a prompt has no token; begin it with the end-of-text token")
    dropped(length, system_length, block_size)
    if length + answer > positions < block_size:
        raise UserError(
            f"a prompt of {length} tokens and an answer of up to {answer} need more than the {positions} positions of "
            "this engine; make it with more, or shorten one of them"
        )
