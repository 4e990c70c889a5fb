"""model -> what happens inside: where each head looks, and what is expected at each position."""

from linnet.insight.attention import attention_maps
from linnet.insight.predictions import Candidate, Prediction, next_tokens, predict

__all__ = ["Candidate", "Prediction", "attention_maps", "next_tokens", "predict"]
