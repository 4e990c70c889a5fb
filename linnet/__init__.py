"""Linnet grows small language models from your own text, with every step open to the eye."""

__version__ = "0.1.0"
