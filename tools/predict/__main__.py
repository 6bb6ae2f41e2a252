"""`python -m tools.predict --model=MODEL PHOTOGRAPHS... --out=predictions.csv`: classifies any number of photographs.

MODEL is an export (.tflite, .onnx, the folder of a SavedModel) or the folder of a finished run. PHOTOGRAPHS are files, and
folders that are searched to the bottom in sorted order; hidden ones are left out, and links followed. They are read and
classified a batch at a time, so a million of them need no more memory than a thousand.

Writes a line a photograph: file, label, probability, the next likely labels and their probabilities, error. A file that cannot
be read, or has another size than the model takes, gets a line with its error and nothing else; the others are classified all
the same, and the exit code is then 1. `--out=-` writes to standard output. The file is UTF-8 and appears whole or not at all.
In a file's name a byte that is not UTF-8, or a control character, is written as a backslash, an x and two digits; a name that
a spreadsheet would compute, as it begins with =, +, - or @, has a ' before it.
"""

import contextlib
import csv
import functools
import io
import itertools
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
from absl import flags
from tqdm import tqdm

from export import inference
from r2d2_tf.config.command_line import run_program
from r2d2_tf.config.flag_help import flags_text
from r2d2_tf.config.path_flags import define_path
from r2d2_tf.data.file_kinds import not_read
from r2d2_tf.runs import run_directory
from r2d2_tf.system import files, spreadsheets
from r2d2_tf.system.commands import command_of
from r2d2_tf.system.messages import one_line
from tools.predict import photograph_files
from tools.predict.photograph_files import shown
from tools.shared import models
from tools.shared.arguments import define_stage, parse_with_names
from tools.shared.models import Model

STANDARD_OUTPUT = "-"
_BATCHES_AHEAD = 2
"""Batches that are decoded while the model works on one."""
_MOST_THREADS = 8
_BYTES_OF_A_HEAD = 256
_MOST_CLASSES_SHOWN = 20
_MOST_NAMED = 3
_BAR = 30
"""Characters of the longest bar."""
Decoded = tuple[str, np.ndarray | str]
"""Name of a file, and its pixels or why there are none."""


@dataclass
class Tally:
    """What is told of all photographs at the end.

    Attributes:
        labels: how many were given each label.
        failed: how many could not be classified.
        failures: the first of them, as `name: why`.
        least_sure: the least probable labels, as (probability, name, label).
    """

    labels: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    least_sure: list[tuple[float, str, str]] = field(default_factory=list)

    def add(self, name: str, label: str, probability: float) -> None:
        """Counts a photograph that was classified."""
        self.labels[label] += 1
        self.least_sure = sorted([*self.least_sure, (probability, name, label)])[:_MOST_NAMED]

    def fail(self, name: str, why: str) -> None:
        """Counts a photograph that was not."""
        self.failed += 1
        self.failures += [f"{one_line(shown(name))}: {why}"] if len(self.failures) < _MOST_NAMED else []


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    define_path("model", "", "an export, or the folder of a finished run", flag_values=flag_values)
    define_path("out", "predictions.csv", "file to write; - is standard output", flag_values=flag_values)
    define_stage(flag_values)
    flags.DEFINE_integer("top", 5, "likeliest classes to write", lower_bound=1, flag_values=flag_values)
    flags.DEFINE_integer("batch_size", 32, "photographs a batch", lower_bound=1, flag_values=flag_values)
    return run_program(arguments, f"{__doc__}\n\n{flags_text(flag_values)}", lambda: _run(flag_values, arguments))


def _run(flag_values: flags.FlagValues, arguments: Sequence[str]) -> int:
    names = parse_with_names(flag_values, arguments)
    model, out, top, batch_size = (flag_values[name].value for name in ("model", "out", "top", "batch_size"))
    if not model:
        raise ValueError("say which model to use: --model=RUN/export/model.tflite, or --model=RUN")
    stage = flag_values["stage"].value
    models.check(Path(model), stage)
    photograph_files.check(names)
    if out != STANDARD_OUTPUT:
        if not out or Path(out).is_dir():
            raise ValueError(f"out ({out}) is a folder: name a file, as in --out={Path(out) / 'predictions.csv'}")
        run_directory.check_writable(Path(out).parent)
    try:
        return predict(Path(model), names, out, top=top, batch_size=batch_size, stage=stage)
    except KeyboardInterrupt:
        print("\ninterrupted: there is no whole table", file=sys.stderr)
        raise


def predict(model_path: Path, names: Sequence[str], out: str, *, top: int, batch_size: int, stage: int = 0) -> int:
    """Classifies the photographs `names` into the table `out`, and returns the exit code; see models.load for the stage."""
    began = time.perf_counter()
    # Standard output may be the table.
    say = functools.partial(print, file=sys.stderr if out == STANDARD_OUTPUT else sys.stdout)
    total, others = photograph_files.count(names)
    left_out = f" ({others:,} other files in the folders left out)" if others else ""
    say(f"{total:,} photographs to classify with {model_path}{left_out}")
    model = models.load(model_path, stage)
    loaded = time.perf_counter()
    with _output(out) as file:
        tally = classify(model, photograph_files.walk(names), file, total=total, batch_size=batch_size, top=top)
    say("\n".join(summary(tally, seconds=time.perf_counter() - loaded, start=loaded - began)))
    if out != STANDARD_OUTPUT:
        say(f"\nwritten to {out}")
    run = models.run_of(model_path)
    if run is not None:
        own = [f"--stage={stage}"] * bool(stage) if run == model_path else [f"--model={model_path}"]
        say(f"\nNext, how often is it wrong?\n  {command_of('tools.evaluate', f'--run_dir={run}', *own)}")
    return _report_failures(tally)


@contextlib.contextmanager
def _output(out: str) -> Iterator[TextIO]:
    if out == STANDARD_OUTPUT:
        # Whatever the terminal's encoding is, a table in UTF-8 with the line ends that csv writes.
        file = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
        try:
            yield file
            file.flush()
        finally:
            file.detach()
        return
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    with files.written_whole(Path(out)) as path, path.open("w", encoding="utf-8", newline="") as file:
        yield file


def classify(model: Model, names: Iterable[str], file: TextIO, *, total: int, batch_size: int, top: int) -> Tally:
    """Classifies the photographs `names` and writes a line for each; `total`, how many there are, is for the progress bar."""
    read = functools.partial(_read, model)
    # Text in quotes, numbers without: Python 3.11 and 3.12 would leave a name with a carriage return as it is.
    writer, tally = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n"), Tally()
    # How many classes there are is known once the model has run. What runtimes print then comes before the bar.
    blank = np.zeros((1, *model.predictor.image_shape), np.uint8)
    labels = model.labels(model.probabilities(blank).shape[1])
    top = min(top, len(labels))
    more = [column for place in range(2, top + 1) for column in (f"label_{place}", f"probability_{place}")]
    writer.writerow(["file", "label", "probability", *more, "error"])
    with tqdm(total=total, unit="image", smoothing=0.05, leave=False, disable=None) as bar:
        for batch in _decoded(names, batch_size, read):
            images = [pixels for _, pixels in batch if not isinstance(pixels, str)]
            probabilities = model.probabilities(np.stack(images)) if images else np.empty((0, len(labels)))
            writer.writerows(_rows(batch, probabilities, labels, top, tally))
            bar.update(len(batch))
    return tally


def _decoded(names: Iterable[str], batch_size: int, read: Callable[[str], np.ndarray | str]) -> Iterator[list[Decoded]]:
    """Batches of photographs, decoded by some threads a few batches ahead."""
    names, waiting = iter(names), deque[tuple[list[str], Iterator[np.ndarray | str]]]()
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        while batch := list(itertools.islice(names, batch_size)):
            waiting.append((batch, pool.map(read, batch)))
            if len(waiting) > _BATCHES_AHEAD:
                done, pixels = waiting.popleft()
                yield list(zip(done, pixels, strict=True))
        while waiting:
            done, pixels = waiting.popleft()
            yield list(zip(done, pixels, strict=True))


def _read(model: Model, name: str) -> np.ndarray | str:
    """The pixels of a photograph, or why there are none."""
    try:
        # A pipe or a device might never end.
        if not os.path.isfile(name):
            raise ValueError("it is no file, or cannot be opened")
        shape, resize = model.predictor.image_shape, model.resize_shorter_side
        return inference.read_image(Path(name), shape, resize, as_shown=model.as_shown)
    # Whatever Pillow's decoders make of bytes that are no image of theirs: one file of a million must not end the program.
    except Exception as error:
        why = str(error).removeprefix(f"{Path(name)} ").replace(name, shown(name))
        return one_line(_kind_not_read(name) or why or type(error).__name__)


def _kind_not_read(name: str) -> str | None:
    """What a file is that Pillow cannot name."""
    if os.path.isfile(name):
        with contextlib.suppress(OSError), open(name, "rb") as file:
            return not_read(file.read(_BYTES_OF_A_HEAD))
    return None


def _rows(
    batch: Sequence[Decoded], probabilities: np.ndarray, labels: Sequence[str], top: int, tally: Tally
) -> Iterator[list[object]]:
    """The lines of a batch; `probabilities` are those of its photographs that could be read."""
    classified = iter(probabilities)
    for name, pixels in batch:
        error = pixels if isinstance(pixels, str) else ""
        if not error:
            p = next(classified)
            error = "" if np.isfinite(p).all() else "the model gives it probabilities that are not finite"
        if error:
            tally.fail(name, error)
            yield [spreadsheets.cell(name), *[""] * (2 * top), spreadsheets.cell(error)]
            continue
        likeliest = np.argsort(-p, kind="stable")[:top]
        tally.add(name, labels[likeliest[0]], float(p[likeliest[0]]))
        cells = [cell for c in likeliest for cell in (spreadsheets.cell(labels[c]), float(f"{p[c]:.6g}"))]
        yield [spreadsheets.cell(name), *cells, ""]


def summary(tally: Tally, *, seconds: float, start: float) -> list[str]:
    """What was found, for people; reading and classifying took `seconds`, and what was before them `start` seconds."""
    classified = tally.labels.total()
    speed = f"{(classified + tally.failed) / seconds:,.0f} images/s; {start:.1f} s to start"
    lines = [f"{classified:,} photographs classified in {seconds:.1f} s ({speed})"]
    if not classified:
        return lines
    common = tally.labels.most_common(_MOST_CLASSES_SHOWN)
    shown_as = {label: one_line(label) for label, _ in common}
    width, most = max(map(len, shown_as.values())), common[0][1]
    lines += ["", "Predicted classes:"]
    for label, count in common:
        bar = "#" * max(1, round(_BAR * count / most))
        lines.append(f"  {shown_as[label]:{width}} {count:>9,} {100 * count / classified:6.1f} %  {bar}")
    rest = len(tally.labels) - len(common)
    if rest:
        lines.append(f"  and {classified - sum(count for _, count in common):,} in {rest:,} other classes")
    lines += ["", "Least sure of:"]
    lines += [
        f"  {one_line(shown(name))}  {one_line(label)}, {100 * probability:.1f} %"
        for probability, name, label in tally.least_sure
    ]
    return lines


def _report_failures(tally: Tally) -> int:
    if not tally.failed:
        return 0
    more = tally.failed - len(tally.failures)
    named = "\n".join(f"  {failure}" for failure in tally.failures) + (f"\n  and {more:,} more" if more else "")
    total = tally.failed + tally.labels.total()
    print(
        f"error: {tally.failed:,} of {total:,} photographs could not be classified; their lines say why:\n{named}",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
