"""ids -> logits: the transformer and its configuration. `ModelConfig` needs no torch."""

from linnet.model.config import ModelConfig

__all__ = ["ModelConfig"]
