"""Linnet's version, apart from the package's face: what asks for it need not know the rooms that the face names."""

__version__ = "0.1.0"
