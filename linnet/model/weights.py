"""A model's weights as named tensors, without wrapper prefixes and with tied matrices once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from linnet.errors import UserError

if TYPE_CHECKING:
    from linnet.model.transformer import Transformer


def weights_of(model: Transformer) -> dict[str, Tensor]:
    """Every parameter by its name, detached and contiguous; a tied head appears under the embedding's name alone."""
    return {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}


def serialised(tensors: dict[str, Tensor]) -> bytes:
    """Named tensors as the bytes of a .safetensors file."""
    import safetensors.torch

    return safetensors.torch.save({name: tensor.cpu() for name, tensor in tensors.items()})


def load_weights(model: Transformer, saved: dict[str, Tensor]) -> None:
    """Puts `saved` into `model`; ties stay ties, because values are copied into the model's own tensors.

    Raises:
        UserError: a name is missing or unknown, or a shape differs; nothing is skipped.
    """
    wanted = dict(model.named_parameters())
    for name in sorted(wanted.keys() - saved.keys()):
        raise UserError(f"the checkpoint has no weights {name!r}; it is of another model")
    for name in sorted(saved.keys() - wanted.keys()):
        raise UserError(f"the checkpoint has weights {name!r} that this model has not; it is of another model")
    for name, parameter in wanted.items():
        if parameter.shape != saved[name].shape:
            raise UserError(
                f"weights {name!r} are {tuple(saved[name].shape)} in the checkpoint and "
                f"{tuple(parameter.shape)} in the model"
            )
        parameter.data.copy_(saved[name])


def calibrated(model: Transformer, temperature: float) -> Transformer:
    """`model` itself, its head so changed that every logit is divided by `temperature`.

    Raises:
        ValueError: the head is the embedding's matrix as well, which has to stay.
    """
    if model.config.tie_embeddings:
        raise ValueError("a head that is tied to the embeddings cannot be changed alone")
    model.lm_head.weight.data.div_(temperature)
    if model.lm_head.bias is not None:
        model.lm_head.bias.data.div_(temperature)
    return model
