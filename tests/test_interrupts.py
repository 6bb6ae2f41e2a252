import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from r2d2_tf.interrupts import RunInterrupted, StopSignals


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
    assert f"{name}: finishing the step and saving; once more stops at once" in capfd.readouterr().err


def test_a_signal_stops_at_once_while_there_is_nothing_to_lose():
    def load_data():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    began = time.monotonic()
    with StopSignals(), pytest.raises(RunInterrupted):
        load_data()
    assert time.monotonic() - began < 5


def test_a_second_signal_ends_the_process_at_once():
    program = (
        "import os, signal, time; from r2d2_tf.interrupts import StopSignals\n"
        "with StopSignals() as signals:\n"
        "    signals.defer()\n"
        "    for number in (signal.SIGINT, signal.SIGTERM): os.kill(os.getpid(), number); time.sleep(0.01)\n"
        "    print('still here')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (143, "")
    assert done.stderr.endswith("stopped at once\n")


def test_earlier_handlers_come_back():
    before = signal.getsignal(signal.SIGINT)
    with StopSignals():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
