"""A tiny model for the room's tests."""

import pytest
from evaluate_models import random_model

from linnet.model.transformer import Transformer


@pytest.fixture
def model() -> Transformer:
    return random_model()
