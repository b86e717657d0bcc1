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


@pytest.fixture
def seeded():
    """Draw the parameters of modules from one seed, and leave the generator of torch as it was."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def inputs():
    """Return sixty rows of six numbers."""
    import torch

    return torch.randn(60, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def classes(inputs):
    """Return the class of each row, one of three."""
    import torch

    return torch.randint(3, (len(inputs),), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def module():
    """Return a network for the rows."""
    import torch

    torch.manual_seed(2)
    layers = torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)
    return torch.nn.Sequential(*layers).double()


@pytest.fixture
def pictures_drawn():
    """Draw what a test leaves open, then close it; nothing changes the settings of matplotlib."""
    import matplotlib.pyplot as plt

    before = matplotlib.rcParams.copy()
    yield
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")
    assert matplotlib.rcParams == before


@pytest.fixture
def a_task_each(monkeypatch):
    """Let each descent, point and path be a task, however little work that is."""
    monkeypatch.setattr("topolandscape.landscape.tasks._STEP", 0)
