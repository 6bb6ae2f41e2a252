"""`python -m tools.report --run_dir=RUN [--compare=RUN]`: what a finished run learned, as one page that stands alone.

Writes RUN/report.html. It opens with a sentence: what the unlabeled images brought. Then: how wrong each class is on test
images, what is taken for what, and those mistakes; the most doubtful images, labels that may be wrong, images that may belong
to no class, those that flipped most often, and a few of the most certain; whether network and table are as right as they are
sure; curves; what the table says of each class; how rows moved. The page needs no network and no JavaScript. Images are
embedded, up to --max_images.

True classes of unlabeled images, where a data set knows them, appear as errors and below the images; nothing is chosen by them,
nor by test labels.

With --compare=RUN the page, RUN_DIR/report_beside_NAME.html, holds the run against another one: their errors, verdicts, flags
that differ, curves. It needs no images. For more runs there is tools.compare.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from r2d2_tf.config.command_line import run_with_flags
from r2d2_tf.config.path_flags import define_data_dir, define_path
from r2d2_tf.runs import finished, run_directory
from r2d2_tf.system import files
from r2d2_tf.system.c_messages import without_warnings_about_images
from r2d2_tf.system.commands import command_of
from r2d2_tf.system.startup import import_tensorflow_quietly
from tools.shared import html, run_records

PAGE = "report.html"


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    define_path("run_dir", "", "folder of a finished run", flag_values=flag_values)
    define_path("compare", "", "folder of another finished run, to be held against this one", flag_values=flag_values)
    define_path("out", "", f"file to write; by default RUN_DIR/{PAGE}", flag_values=flag_values)
    define_data_dir(flag_values)
    flags.DEFINE_integer(
        "max_images", 168, "images on the page at most", lower_bound=10, upper_bound=5000, flag_values=flag_values
    )
    flags.DEFINE_integer(
        "max_predicted",
        10_000,
        "labeled images, and as many unlabeled and test images evenly spread, that the final network is shown at most",
        lower_bound=10,
        flag_values=flag_values,
    )
    return run_with_flags(arguments, __doc__, flag_values, _run)


@without_warnings_about_images()
def _run(flag_values: flags.FlagValues) -> int:
    run_dir, config, summary = finished.named(flag_values["run_dir"].value)
    if flag_values["compare"].value:
        return _compare(flag_values, run_dir)
    out = Path(flag_values["out"].value or run_dir / PAGE).expanduser()
    _check_writable(out)
    for name in (run_directory.TABLE_FILE, run_directory.HISTORY_FILE, run_directory.BACKBONE_FILE, run_directory.METRICS_FILE):
        if not (run_dir / name).is_file():
            raise ValueError(f"there is no {run_dir / name}: give a finished run that trained stage 2 or 3")
    import_tensorflow_quietly()
    from tools.report import contents, sheets, tested_sheets
    from tools.report.evidence import gather

    print(f"reading {run_dir} and its images", flush=True)
    data_dir, most_images, most_predicted = (flag_values[name].value for name in ("data_dir", "max_images", "max_predicted"))
    found = gather(run_dir, config, summary, data_dir=data_dir, most_predicted=most_predicted)
    content = contents.contents(found, run_dir)
    most = most_images // sheets.SHEETS
    content["sheets"] = sheets.shown(found, sheets.all_sheets(found, most))
    content["tested_sheets"] = tested_sheets.sheets_of(found.tested, found.class_names, most)
    _write(out, "report.html", content)
    moved = [f"--data_dir={data_dir}"] * bool(data_dir)
    command = command_of("tools.label_queue", f"--run_dir={run_dir}", *moved)
    print(f"Next, to have doubtful images labeled:\n  {command}")
    return 0


def _compare(flag_values: flags.FlagValues, run_dir: Path) -> int:
    other, *_ = finished.named(flag_values["compare"].value)
    if other.resolve() == run_dir.resolve():
        raise ValueError(f"compare ({other}) is the run itself: give the folder of another one")
    out = Path(flag_values["out"].value or run_dir / f"report_beside_{other.resolve().name}.html").expanduser()
    _check_writable(out)
    from tools.report import beside

    _write(out, "beside.html", beside.contents(run_records.read(run_dir), run_records.read(other)))
    print(f"Next, with more runs of each:\n  {command_of('tools.compare', str(run_dir), str(other), '...')}")
    return 0


def _check_writable(out: Path) -> None:
    if out.is_dir():
        raise ValueError(f"{out} is a folder: give the name of a file, as --out={out / PAGE}")
    run_directory.check_writable(out.parent)


def _write(out: Path, template: str, content: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(out, html.render(template, content))
    print(f"written to {out} ({out.stat().st_size / 2**20:.1f} MiB): open it in a browser\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
