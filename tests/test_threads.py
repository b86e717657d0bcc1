"""Threads that share out the parts of a range stay for the next call, and are made anew after a fork."""

import subprocess
import sys
import threading
import time
from itertools import pairwise

import numba
import pytest

from topolandscape.structures.threads import take_turns
from topolandscape.topology.threads import shared_out


@pytest.fixture
def two_threads():
    before = numba.get_num_threads()
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    yield
    numba.set_num_threads(before)


def test_parts_follow_each_other(two_threads):
    parts = shared_out(lambda first, last: (first, last), 100_000)
    assert parts[0][0] == 0
    assert parts[-1][1] == 100_000
    assert all(one[1] == other[0] for one, other in pairwise(parts))


def test_no_part_is_shorter_than_asked(two_threads):
    assert shared_out(lambda first, last: last - first, 100_000, least=60_000) == [100_000]
    assert min(shared_out(lambda first, last: last - first, 100_000, least=20_000)) >= 20_000


def test_what_a_part_raises_is_raised(two_threads):
    def fails(first, last):
        raise ArithmeticError(f"{first}")

    with pytest.raises(ArithmeticError):
        shared_out(fails, 100_000)
    assert sum(shared_out(lambda first, last: last - first, 100_000)) == 100_000


def test_several_threads_may_share_out_at_once(two_threads):
    sums = {}

    def ask(number):
        sums[number] = sum(shared_out(lambda first, last: (last - first) * number, 100_000))

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert sums == {number: 100_000 * number for number in range(8)}


def test_what_the_calling_thread_raises_waits_for_the_helpers():
    began, ended = threading.Event(), []

    def work(part):
        if threading.current_thread() is threading.main_thread():
            began.wait(10)
            raise ArithmeticError("in the calling thread")
        began.set()
        time.sleep(0.05)
        ended.append(part)

    with pytest.raises(ArithmeticError, match="calling"):
        take_turns(work, 50, threads=2)
    assert 1 <= len(ended) < 49


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_process_that_was_forked_has_threads_of_its_own():
    script = """
import os, warnings
warnings.simplefilter("ignore")
from topolandscape.topology.threads import shared_out
kernel = lambda first, last: last - first
assert sum(shared_out(kernel, 100_000)) == 100_000
child = os.fork()
if child == 0:
    os._exit(0 if sum(shared_out(kernel, 100_000)) == 100_000 else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
