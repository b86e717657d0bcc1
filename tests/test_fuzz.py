"""Readers, and the command line, refuse what nobody meant to write in the words that they promise."""

import pytest
from fuzz import TARGETS, inputs, tried
from hypothesis import given, settings


@pytest.mark.parametrize("name", list(TARGETS))
def test_reader(name):
    @settings(max_examples=4 if name.startswith("command") else 30)
    @given(inputs(name))
    def each(data):
        tried(name, data)

    each()
