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


def visible(ids: list[int], system_length: int, block_size: int) -> list[int]:
    """The ids that the model reads to predict what follows `ids`: at most `block_size` of them, never none.

    Args:
        system_length: how many ids at the start are the system prompt, which always stays.
    Raises:
        UserError: the system prompt takes more than half of the context.
    """
    gone = dropped(len(ids), system_length, block_size)
    return ids[:system_length] + ids[system_length + gone :] if gone else list(ids)
