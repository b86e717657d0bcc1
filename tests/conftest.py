"""Settings of all tests: no display, and the same random examples on every machine."""

import matplotlib
import pytest
from hypothesis import HealthCheck, settings

matplotlib.use("Agg")
settings.register_profile(
    "topolandscape", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], max_examples=100
)
settings.load_profile("topolandscape")


@pytest.fixture(scope="module")
def one_thread():
    """Networks of a few weights are slower on several threads, by far when the machine is busy."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
