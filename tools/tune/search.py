"""A search from its options to a table: `run(options)`."""

import contextlib
import fcntl
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

import grpc
import tensorflow as tf
from keras_tuner.errors import FatalRuntimeError

from r2d2_tf.system.commands import command_of
from r2d2_tf.system.messages import one_line
from tools.tune.options import LOCK, Options, claim_folder
from tools.tune.records import Record, best_of
from tools.tune.search_report import FLAGFILE, LINES, PICTURE, TABLE, Reporter, described
from tools.tune.trials import Trials
from tools.tune.tuner import Search, make_oracle, planned_epochs
from tools.tune.validation import Fold, make_folds

_FILES = {
    FLAGFILE: "the best setting as a flagfile, and how it was found",
    TABLE: "the table above",
    LINES: "a line a trial, with the error of each fold",
    PICTURE: "errors over what was searched",
    "trials/": "what each run measured and said",
}


def run(options: Options) -> int:
    """Searches, or goes on with a search, prints what it finds, and returns the exit code."""
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        with _locked(options):
            claim_folder(options)
            return _search(options)
    except (RuntimeError, OSError, grpc.RpcError) as error:
        told = error.details() if isinstance(error, grpc.Call) else error
        print(f"error: {one_line(told)}; once that is mended, the same command goes on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C; the same command goes on", file=sys.stderr)
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: FrameType | None) -> None:
    # Raised, so that the runs are ended too.
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _locked(options: Options) -> Iterator[None]:
    """Holds this process's part in the search; the system lets go of it however the process ends."""
    options.folder.mkdir(parents=True, exist_ok=True)
    with (options.folder / f"{LOCK}-{options.tuner_id or 'alone'}").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"output_dir ({options.folder}) is in use by a living process: wait for it, or choose another --output_dir"
            ) from None
        yield


def _search(options: Options) -> int:
    fraction, dataset = options.validation_fraction, options.validation_dataset
    folds = make_folds(
        options.config, options.spec, options.folder / "folds", folds=options.folds, fraction=fraction, dataset=dataset
    )
    trials = Trials(folds, options.spec, options.folder, _at_once(options, len(folds)), options.tuner_id or "alone")
    oracle = make_oracle(options)
    reporter = Reporter(options, trials.records, planned_epochs(oracle, options), _validated_on(options, folds))
    print(_plan_text(options, reporter, folds), flush=True)
    classes = options.spec.num_classes
    # keras-tuner says what it reads.
    with contextlib.redirect_stdout(io.StringIO()):
        search = Search(oracle, trials=trials, reporter=reporter, folder=options.folder, failed_score=100.0 * (1 - 1 / classes))
    if options.is_chief:
        address = f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
        print(f"This is the chief: it hands out trials at {address}, and shows the outcome when workers have made them.")
    else:
        _make_stage_1(trials)
        print(f"\n{_so_far(trials.records.all())}{reporter.heading()}", flush=True)
    try:
        search.search()
    except FatalRuntimeError as fatal:
        raise fatal.__cause__ or fatal from None
    if options.tuner_id and not options.is_chief:
        print("No trial is left for this worker; the chief shows the outcome.")
        return 0
    return _show_outcome(options, reporter)


def _at_once(options: Options, num_folds: int) -> int:
    if options.at_once:
        return options.at_once
    takes_all = options.tuner_id or options.spec.photographs or tf.config.list_physical_devices("GPU")
    return 1 if takes_all else min(num_folds, os.cpu_count() or 1)


def _validated_on(options: Options, folds: Sequence[Fold]) -> str:
    total = sum(fold.num_validation for fold in folds)
    if options.validation_dataset:
        return f"{total:,} test images of {options.validation_dataset}"
    return f"{total:,} held-out labeled images" + (f", in {len(folds)} folds" if len(folds) > 1 else "")


def _plan_text(options: Options, reporter: Reporter, folds: Sequence[Fold]) -> str:
    config, space, epochs = options.config, options.space, reporter.epochs
    lengths = f" of {min(epochs)} to {max(epochs)} epochs" if reporter.varies_length else ""
    count = f"{len(epochs)} trial{'s' if len(epochs) > 1 else ''}{lengths}"
    own = described(space, space.own)
    first = f"the config's own setting, {own}" if space.holds_own else f"as any other: the config's own ({own}) is outside"
    trained = f"; a run is trained with {folds[0].num_labels:,} labels" if not options.validation_dataset else ""
    lines = [
        f"Search: {config.name}, seed {config.seed}, {options.tuner}, {count}, into {options.folder}",
        *(f"  searched    {dimension}" for dimension in space.dimensions),
        f"  judged by   {reporter.validated_on}{trained}",
        f"  first trial {first}",
    ]
    return "\n".join(lines)


def _make_stage_1(trials: Trials) -> None:
    made = trials.stage_1()
    errors = ", ".join(f"{summary['test_error_percent']['stage_1']:.2f}" for summary in made)
    seconds = sum(summary["seconds"]["total"] for summary in made)
    print(f"  stage 1     shared by all trials: {seconds:.0f} s of work, start-up included; error {errors} %", flush=True)


def _so_far(records: Sequence[Record]) -> str:
    if not records:
        return ""
    best = best_of(records)
    return f"Going on: {len(records)} of the trials done" + (f", the best at {best.error:.2f} %" if best else "") + "\n"


def _show_outcome(options: Options, reporter: Reporter) -> int:
    best, records = reporter.write(), reporter.records.all()
    reporter.draw()
    print(f"\n{reporter.table(records)}\n")
    files = "\n".join(f"  {name:12} {what}" for name, what in _FILES.items() if best or name != FLAGFILE)
    if best is None:
        print(f"Files in {options.folder}:\n{files}")
        print("error: all trials failed: lower --pseudo_label_lr or the rates of --rounds, or search them", file=sys.stderr)
        return 1
    own = " (the config's own setting)" if best.setting == options.space.own else ""
    flagfile = f"--flagfile={options.folder / FLAGFILE}"
    seeds = ",".join(str(options.config.seed + more) for more in (1, 2, 3))
    setting = described(options.space, best.setting)
    print(f"Best: trial {best.number}, {setting}{own}. Errors are on {reporter.validated_on}.")
    print(
        f"\nFiles in {options.folder}:\n{files}\n\nNext, with the best setting and all labels, a run, or three of other seeds:"
    )
    print(f"  {command_of('r2d2_tf.train', flagfile)}")
    print(f"  {command_of('tools.repeat', f'--seeds={seeds}', flagfile)}")
    return 0
