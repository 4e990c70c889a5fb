"""checkpoint -> text: sampling, the key/value cache, the engine, streaming, conversations. `Sampling` needs no torch."""

from linnet.generate.sampling import Sampling

__all__ = ["Sampling"]
