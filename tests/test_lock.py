"""One process at a time in a folder, and none that has ended."""

import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

import topolandscape as tl
from topolandscape.cli import app
from topolandscape.files import locked

HOLDER = (
    "import sys; from topolandscape.files import locked\nwith locked(sys.argv[1]): print('in', flush=True); input()"
)


@pytest.fixture
def held(tmp_path):
    """Let another process hold a folder."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "in\n"
    yield holder
    holder.kill()
    holder.communicate()


def test_a_second_process_is_refused_in_one_line(held, tmp_path):
    folder = tmp_path / "run"
    words = f"another process computes in {folder}; wait until it is done, or choose another folder."
    asked = [*("barcode", "mlp:2-2-1,tanh", "teacher_student", "--minima", "2", "--steps", "5"), "--out", str(folder)]
    said = CliRunner().invoke(app, asked)
    assert said.exit_code == 1
    assert [line for line in said.stderr.splitlines() if line] == [f"topolandscape: {words}"]
    with pytest.raises(BlockingIOError, match="another process computes in"):
        tl.run_study(tl.Study({"model": "mlp:2-2-1,tanh", "data": "teacher_student"}), folder, progress=False)
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_killed_process_holds_nothing(held, tmp_path):
    held.send_signal(signal.SIGKILL)
    held.wait()
    with locked(tmp_path / "run"):
        pass


def test_the_lock_is_waited_for_a_little(held, tmp_path):
    begun = time.monotonic()
    with pytest.raises(BlockingIOError), locked(tmp_path / "run"):
        pass
    assert time.monotonic() - begun > 1
    held.communicate("\n")  # it leaves the folder
    with locked(tmp_path / "run"), locked(tmp_path / "other"):
        pass
