"""The grammars of the built-in world, as text files in the notation of `linnet.corpus.notation`."""
