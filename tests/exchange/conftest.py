"""Published models, each made and imported once."""

import pytest
from published_folders import KINDS, publish, theirs

from linnet.exchange.importing import import_model


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """By kind: the folder of a published model, and that of the imported one."""
    place = tmp_path_factory.mktemp("published")
    found = {}

    def of(kind):
        if kind not in found:
            folder = publish(kind, place / kind)
            found[kind] = folder, import_model(str(folder), place / f"{kind}-imported").path
        return found[kind]

    return of


@pytest.fixture(scope="session")
def both(published):
    """By kind: `transformers`' model and tokenizer, and Linnet's `LM`."""
    import linnet

    found = {}

    def of(kind):
        assert kind in KINDS
        if kind not in found:
            folder, imported = published(kind)
            found[kind] = (*theirs(folder), linnet.load(imported, device="cpu"))
        return found[kind]

    return of
