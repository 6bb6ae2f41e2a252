"""`python -m tools.report --run_dir=RUN`: what a finished run learned, as one page that stands alone.

Writes RUN/report.html: curves; what the table says of each class; how rows moved; whether table and networks are as right as
they are sure; and images: the most certain and the most doubtful, those that flipped most often, labels that may be wrong, and
images that may belong to no class. The page needs no network and no JavaScript. Images are embedded, up to --max_images.

True classes of unlabeled images, where a data set knows them, appear as errors and below the images; nothing is chosen by them.
Test labels appear as the test error alone.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from r2d2_tf.config.command_line import run_with_flags
from r2d2_tf.config.path_flags import define_data_dir, define_path
from r2d2_tf.runs import finished, run_directory
from r2d2_tf.system import files
from r2d2_tf.system.c_messages import without_warnings_about_images
from r2d2_tf.system.commands import command_of
from r2d2_tf.system.startup import import_tensorflow_quietly
from tools.shared import html

PAGE = "report.html"


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    define_path("run_dir", "", "folder of a finished run", flag_values=flag_values)
    define_path("out", "", f"file to write; by default RUN_DIR/{PAGE}", flag_values=flag_values)
    define_data_dir(flag_values)
    flags.DEFINE_integer(
        "max_images", 240, "images on the page at most", lower_bound=10, upper_bound=5000, flag_values=flag_values
    )
    flags.DEFINE_integer(
        "max_predicted",
        10_000,
        "labeled images, and as many unlabeled ones evenly spread, that the final network is shown at most",
        lower_bound=10,
        flag_values=flag_values,
    )
    return run_with_flags(arguments, __doc__, flag_values, _run)


@without_warnings_about_images()
def _run(flag_values: flags.FlagValues) -> int:
    run_dir, config, summary = finished.named(flag_values["run_dir"].value)
    out = Path(flag_values["out"].value or run_dir / PAGE).expanduser()
    if out.is_dir():
        raise ValueError(f"{out} is a folder: give the name of a file, as --out={out / PAGE}")
    run_directory.check_writable(out.parent)
    for name in (run_directory.TABLE_FILE, run_directory.HISTORY_FILE, run_directory.BACKBONE_FILE, run_directory.METRICS_FILE):
        if not (run_dir / name).is_file():
            raise ValueError(f"there is no {run_dir / name}: give a finished run that trained stage 2 or 3")
    import_tensorflow_quietly()
    from tools.report import contents, sheets
    from tools.report.evidence import gather

    print(f"reading {run_dir} and its images", flush=True)
    data_dir, most_images, most_predicted = (flag_values[name].value for name in ("data_dir", "max_images", "max_predicted"))
    found = gather(run_dir, config, summary, data_dir=data_dir, most_predicted=most_predicted)
    content = contents.contents(found, run_dir)
    content["sheets"] = sheets.shown(found, sheets.all_sheets(found, most_images))
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(out, html.render("report.html", content))
    print(f"written to {out} ({out.stat().st_size / 2**20:.1f} MiB): open it in a browser\n")
    moved = [f"--data_dir={data_dir}"] * bool(data_dir)
    command = command_of("tools.label_queue", f"--run_dir={run_dir}", *moved)
    print(f"Next, to have doubtful images labeled:\n  {command}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
