"""checkpoint -> text: sampling, key/value cache, engine, streaming, conversations. `Sampling` needs no torch."""

from linnet.generate.sampling import Sampling

__all__ = ["Sampling"]
