"""A quarter of the digits, for studies that are to take minutes."""

import topolandscape as tl


def quarter():
    """Return 360 of the images to train on, and all those to test on."""
    data = tl.zoo.dataset("digits")
    return data.inputs[::4], data.targets[::4], data.test_inputs, data.test_targets
