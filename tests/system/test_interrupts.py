import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from r2d2_tf.system.interrupts import RunInterrupted, StopSignals


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_signal_waits_for_the_check_once_there_is_something_to_lose(number, code, name, capfd):
    with StopSignals() as signals:
        signals.defer()
        signals.check()
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        with pytest.raises(RunInterrupted, match=f"stopped by {name}") as stopped:
            signals.check()
    assert stopped.value.exit_code == code
    assert f"{name}: saving the run; once more stops at once" in capfd.readouterr().err


def test_a_signal_stops_at_once_while_there_is_nothing_to_lose():
    def load_data():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    began = time.monotonic()
    with StopSignals(), pytest.raises(RunInterrupted):
        load_data()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGTERM), (signal.SIGINT, signal.SIGINT)])
def test_a_second_signal_ends_the_process_at_once_even_within_a_step(numbers):
    # A long call that gives Python no chance to run a handler of its own, as a step of TensorFlow is.
    program = (
        "import hashlib; from r2d2_tf.system.interrupts import StopSignals\n"
        "with StopSignals() as signals:\n"
        "    signals.defer(); print(flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 500_000_000)\n"
        "    print('still here')"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        process.stdout.readline()
        process.send_signal(numbers[0])
        assert "saving the run" in (process.stderr.readline() + process.stderr.readline()), "at once, not after the step"
        process.send_signal(numbers[1])
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (128 + numbers[1], "")
    assert errors.endswith("stopped at once\n")


def test_earlier_handlers_come_back():
    before = signal.getsignal(signal.SIGINT)
    with StopSignals():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
