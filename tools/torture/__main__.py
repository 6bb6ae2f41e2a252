"""`python -m tools.torture --kills=50`: proves on this machine that no run is lost, whatever happens to it.

Trains a shortened mnist5k undisturbed, and then again and again while it kills the process (SIGKILL) at random moments, a
fifth of them while a checkpoint is being written, and starts it again. On the way it stops runs by signals, damages and
removes files, starts the same command twice, and fills a small file system. At the end it compares every run with the
undisturbed one, bit for bit, and prints the counts. Bounded: some fifteen seconds a kill.
"""

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags

from r2d2_tf.config.command_line import run_with_flags
from r2d2_tf.runs import run_directory
from r2d2_tf.system import files
from r2d2_tf.system.commands import command_line, environment
from tools.torture.exactness import differences

# With a checkpoint every fifth of a second there are many to be killed in.
FLAGS = [
    *("--flagfile=configs/mnist5k.cfg", "--supervised_epochs=10", "--rounds=4:0.01,4:0.01,4:0.005", "--finetune_epochs=2"),
    *("--nostop_on_collapse", "--deterministic", "--checkpoint_minutes=0.003"),
]
KILLS, WHILE_SAVING = "kills", "of them while a checkpoint was being written"
_KILLS_A_RUN = 10
_WHILE_SAVING = 5
"""One of so many kills comes while a checkpoint is being written."""
_TMPFS_MIB = 48
_SECONDS_TO_STOP = 20
_PATIENCE = 600
"""Seconds that a run may take before it counts as hanging."""


class Failed(Exception):
    """A promise was broken; the message says which."""


class Torturer:
    """Starts, kills and damages runs in a folder, at random moments, and counts what it did."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.undisturbed = folder / "undisturbed"
        began = time.monotonic()
        self.finish(self.undisturbed)
        self.seconds = time.monotonic() - began
        self._number = 0

    def new_run(self) -> Path:
        self._number += 1
        return self.folder / f"run_{self._number}"

    def start(self, run: Path) -> subprocess.Popen:
        """Starts the command of a run; what it prints is added to RUN.log."""
        self.started = time.time()
        command = command_line("r2d2_tf.train", [*FLAGS, f"--run_dir={run}"])
        with Path(f"{run}.log").open("a") as log:
            return subprocess.Popen(command, env=environment(), stdout=log, stderr=log)

    def start_and_save(self, run: Path) -> subprocess.Popen:
        """Starts a run, and waits until a moment after it has written a checkpoint of its own beside an earlier one."""
        before = {path.name for path in checkpoints_of(run)}
        process = self.start(run)
        deadline = time.monotonic() + _PATIENCE
        while len(names := [path.name for path in checkpoints_of(run)]) < 2 or names[-1] in before:
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{run} ended, or hangs, before it wrote a checkpoint: see {run}.log")
            time.sleep(0.005)
        time.sleep(self.random.uniform(0, 0.5))
        return process

    def ends(self, process: subprocess.Popen, run: Path, code: int, says: str = "") -> None:
        """Waits for the end of a process.

        Raises:
            Failed: if it ends with another exit code, without saying this, or not at all.
        """
        try:
            ended = process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Failed(f"{run} hangs") from None
        if ended != code or says not in Path(f"{run}.log").read_text():
            raise Failed(f"{run} ended with {ended} in place of {code}, or did not say {says!r}: see {run}.log")

    def finish(self, run: Path) -> None:
        """Lets a run go to its end, if it has not yet."""
        if not (run / run_directory.SUMMARY_FILE).is_file():
            self.ends(self.start(run), run, 0)

    def kill(self, run: Path, *, while_saving: bool) -> bool:
        """Kills a run at a random moment after it was started; returns whether it had not ended before."""
        process = self.start(run)
        time.sleep(self.random.uniform(0, self.seconds))
        while while_saving and process.poll() is None and not self.is_saving(run):
            time.sleep(0.0005)
        process.kill()
        if process.wait() != -signal.SIGKILL:
            return False
        self.counts[KILLS] += 1
        self.counts[WHILE_SAVING] += self.is_saving(run)
        return True

    def is_saving(self, run: Path) -> bool:
        """Whether the process that was started last has a checkpoint half written."""
        partial = (run / run_directory.CHECKPOINTS).glob(f"{files.PARTIAL}*")
        with contextlib.suppress(FileNotFoundError):
            return any(path.stat().st_mtime > self.started for path in partial)
        return False

    def check(self, run: Path) -> None:
        """Lets a run go to its end, and compares it with the undisturbed one.

        Raises:
            Failed: if they differ in a bit.
        """
        self.finish(run)
        differing = differences(run, self.undisturbed)
        if differing:
            raise Failed(f"{run} is not what the undisturbed run is: {', '.join(differing)} differ")
        self.counts["runs that ended bit-identical to the undisturbed one"] += 1


def checkpoints_of(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((run / run_directory.CHECKPOINTS).glob("[0-9]*.npz"))


def kill_many(torturer: Torturer, kills: int) -> None:
    """Kills runs until there were enough kills, each run ten times or until it ends, and lets each go to its end."""
    while torturer.counts[KILLS] < kills or torturer.counts[WHILE_SAVING] * _WHILE_SAVING < kills:
        run = torturer.new_run()
        for _ in range(_KILLS_A_RUN):
            if not torturer.kill(run, while_saving=torturer.counts[WHILE_SAVING] * _WHILE_SAVING <= torturer.counts[KILLS]):
                break
            print(f"  {run.name}: kill {torturer.counts[KILLS]} of {kills}", flush=True)
        torturer.check(run)


def stop_by_signals(torturer: Torturer) -> None:
    """Ctrl-C and SIGTERM save the run and exit as they should."""
    run = torturer.new_run()
    for number in (signal.SIGINT, signal.SIGTERM):
        process = torturer.start_and_save(run)
        process.send_signal(number)
        began = time.monotonic()
        torturer.ends(process, run, 128 + number, "saved: stage")
        if time.monotonic() - began > _SECONDS_TO_STOP:
            raise Failed(f"{run} took more than {_SECONDS_TO_STOP} s to stop")
        torturer.counts["stops by a signal"] += 1
    torturer.check(run)


def damage_files(torturer: Torturer) -> None:
    """Damaged files are told and not used; nothing is begun afresh."""
    run = torturer.new_run()
    for damage in (_truncate, _flip, Path.unlink):
        _kill(torturer.start_and_save(run))
        newest = checkpoints_of(run)[-1]
        damage(newest)
        is_left = newest.exists()
        _kill(torturer.start_and_save(run))
        if is_left and f"{newest.name} is damaged and not used" not in Path(f"{run}.log").read_text():
            raise Failed(f"{run} took a damaged checkpoint, or did not say that it is damaged")
        torturer.counts["damaged or removed checkpoints, the one before used"] += 1
    for damaged, code, says in (
        (checkpoints_of(run), 1, "is whole: put a good copy there"),
        ([run / run_directory.CONFIG_FILE], 2, "config.cfg is damaged"),
    ):
        copies = [path.read_bytes() for path in damaged]
        for path in damaged:
            _truncate(path)
        torturer.ends(torturer.start(run), run, code, says)
        for path, copy in zip(damaged, copies, strict=True):
            path.write_bytes(copy)
        torturer.counts["runs refused for damaged files, and gone on with once mended"] += 1
    torturer.check(run)


def start_twice(torturer: Torturer) -> None:
    """The same command at the same time is refused, and the first one is not disturbed."""
    run = torturer.new_run()
    first = torturer.start_and_save(run)
    torturer.ends(torturer.start(run), run, 2, "is in use: a living process trains in it")
    torturer.ends(first, run, 0)
    torturer.check(run)
    run = torturer.new_run()
    pair = [torturer.start(run) for _ in range(2)]
    codes = sorted(process.wait(_PATIENCE) for process in pair)
    if codes != [0, 2]:
        raise Failed(f"of two commands that began at once one should be refused: they ended with {codes}")
    torturer.check(run)
    torturer.counts["second commands refused"] += 2


def fill_a_disk(torturer: Torturer) -> None:
    """A full disk stops the run with the last checkpoint intact; with space again it goes on."""
    with _small_file_system() as place:
        if place is None:
            torturer.counts["full disks: NOT TRIED, no tmpfs can be mounted here"] += 1
            return
        run = place / "run"
        process = torturer.start_and_save(run)
        filler = place / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(2**16)):
                pass
        torturer.ends(process, run, 1, "could not be written: No space left on device")
        if not checkpoints_of(run):
            raise Failed("a full disk cost the last checkpoint")
        filler.unlink()
        torturer.check(run)
        torturer.counts["full disks"] += 1


def _kill(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 16
    path.write_bytes(content)


@contextlib.contextmanager
def _small_file_system() -> Iterator[Path | None]:
    """A tmpfs of some megabytes; None where none can be mounted."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_TMPFS_MIB}m", "tmpfs", folder]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
            yield None
            return
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=False)


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code: 0 if every promise was kept."""
    flag_values = flags.FlagValues()
    flags.DEFINE_integer("kills", 50, "how often a run is killed", lower_bound=1, flag_values=flag_values)
    flags.DEFINE_integer("seed", 0, "of the random moments", flag_values=flag_values)
    return run_with_flags(arguments, __doc__, flag_values, _torture)


def _torture(flag_values: flags.FlagValues) -> int:
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    print(f"runs and what they print: {folder}\ntraining the undisturbed run", flush=True)
    try:
        torturer = Torturer(folder, flag_values["seed"].value)
        for torment in (stop_by_signals, damage_files, start_twice, fill_a_disk):
            print(torment.__doc__, flush=True)
            torment(torturer)
        kill_many(torturer, flag_values["kills"].value)
    except Failed as failed:
        print(f"FAILED: {failed}", file=sys.stderr)
        return 1
    print(f"\nUndisturbed, a run takes {torturer.seconds:.0f} s, start-up included. Every promise was kept:")
    for what, count in torturer.counts.items():
        print(f"  {count:4} {what}")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
