"""`python -m tools.pseudo_labels --run_dir=RUN --out=labels.parquet`: the learned pseudo-labels, for another trainer.

Writes one row a training image, in the order of the run's table, as .csv, .parquet or .npz by the ending of --out:

    file            id of the image, as in the data set
    label           name of the most probable class; where a label was given it is that one, unless its row was learned
    split           train
    probability     of that class
    entropy         of the whole row, in nats (0: sure)
    margin          by how much the probability exceeds that of the second class
    given_label     class that was given; empty where none was
    flips           how often the row's most probable class changed in stage 2; empty for images with given labels
    label_2, probability_2 ...      the next classes, up to --top_k
    probabilities   of all classes, with --soft; in a .csv a column each, probability_of_NAME

and, of photographs in a folder, one a test image: its file, its label, test, and the rest empty.

A .parquet has null for empty, `probabilities` as a list, and in the metadata of its schema `class_names`, in their order. A
.npz holds `files` (numpy.savez has a `file` of its own), `class_names` and numbers of classes in place of names, -1 or NaN
for empty, and `top_labels` and `top_probabilities`, both `[rows, k]`, in place of what ends in a number. Rows are read and
written in parts: the table may be larger than memory.

`--labels` of r2d2_tf.train reads all three; with `--soft_labels`, the probabilities.
"""

import contextlib
import csv
import json
import sys
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from absl import flags
from pyarrow import parquet
from tqdm import tqdm

from r2d2_tf.config.command_line import run_with_flags
from r2d2_tf.config.path_flags import define_data_dir, define_path
from r2d2_tf.data.labels.label_formats import PROBABILITY_OF
from r2d2_tf.runs import finished, run_directory
from r2d2_tf.system import files, spreadsheets
from tools.shared import row_history, run_images, saved_table
from tools.shared.saved_table import SavedTable

Part = dict[str, np.ndarray]
"""Some rows, one after another: columns by the names that they have in a .npz; see PseudoLabels.parts."""


@dataclass(frozen=True)
class PseudoLabels:
    """What is to be written: a table, the flips of its rows, `[rows]`, and test images, if they have names."""

    table: SavedTable
    flips: np.ndarray
    class_names: Sequence[str]
    top_k: int
    soft: bool
    test_ids: Sequence[str] = ()
    test_labels: Sequence[int] | np.ndarray = ()

    def parts(self) -> Iterator[Part]:
        """All rows, from the first to the last, with a bar for people, and then the test images.

        Beside what the program's text names there are `top_labels` and `top_probabilities`, `[rows, k]`, the first class first,
        and the `probabilities` of all classes, `[rows, classes]`. Test images have no row: NaN, and -1 behind their label.
        """
        most = max(self.top_k, 2)
        with tqdm(total=len(self.flips), unit="row", leave=False, disable=None) as bar:
            for rows, probabilities in self.table.walk():
                top = np.argsort(-probabilities, axis=1, kind="stable")[:, :most]
                ids, given = np.array(self.table.ids[rows]), np.array(self.table.labels[rows])
                yield self._part("train", ids, given, self.flips[rows], probabilities, top)
                bar.update(len(probabilities))
        if count := len(self.test_ids):
            labels, top = np.asarray(self.test_labels, np.int64), np.full((count, most), -1, np.int64)
            top[:, 0] = labels
            flips = np.full(count, row_history.UNKNOWN, self.flips.dtype)
            unknown = np.full((count, self.table.num_classes), np.nan, np.float32)
            yield self._part("test", np.array(self.test_ids), labels, flips, unknown, top)

    def _part(
        self, split: str, ids: np.ndarray, given: np.ndarray, flips: np.ndarray, probabilities: np.ndarray, top: np.ndarray
    ) -> Part:
        of_top = np.take_along_axis(probabilities, top, 1)
        return {
            "files": ids,
            "split": np.full(len(ids), split),
            "given_label": given,
            "flips": flips,
            "entropy": saved_table.entropy_of(probabilities),
            "margin": of_top[:, 0] - of_top[:, 1],
            "top_labels": top[:, : self.top_k],
            "top_probabilities": of_top[:, : self.top_k],
            "probabilities": probabilities,
        }


def write_csv(path: Path, found: PseudoLabels) -> None:
    """A header, and a line a row; numbers with nine digits, from which float32 comes back exactly."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, part in enumerate(found.parts()):
            columns = _columns(part, found)
            if found.soft:
                of_each = zip(found.class_names, part["probabilities"].T, strict=True)
                columns |= {f"{PROBABILITY_OF}{name}": _known(values) for name, values in of_each}
            if not number:
                writer.writerow(map(spreadsheets.cell, columns))
            lines = zip(*(column.to_pylist() for column in columns.values()), strict=True)
            writer.writerows([f"{c:.9g}" if isinstance(c, float) else spreadsheets.cell(c) for c in line] for line in lines)


def write_parquet(path: Path, found: PseudoLabels) -> None:
    """A group of rows a part."""
    with contextlib.ExitStack() as stack:
        writer = None
        for part in found.parts():
            columns = _columns(part, found)
            if found.soft:
                flat, none = pyarrow.array(part["probabilities"].ravel()), pyarrow.array(np.isnan(part["probabilities"][:, 0]))
                columns["probabilities"] = pyarrow.FixedSizeListArray.from_arrays(flat, len(found.class_names), mask=none)
            group = pyarrow.table(columns, metadata={"class_names": json.dumps(list(found.class_names))})
            writer = writer or stack.enter_context(parquet.ParquetWriter(path, group.schema))
            writer.write_table(group)


def _columns(part: Part, found: PseudoLabels) -> dict[str, Any]:
    """The columns of a .csv or .parquet but for the probabilities of all classes, as Arrow's arrays; null is empty."""
    names = np.array(found.class_names, object)

    def named(classes: np.ndarray) -> Any:
        return pyarrow.array(names[classes], pyarrow.string(), mask=classes < 0)

    columns = {
        "file": pyarrow.array(part["files"].tolist(), pyarrow.string()),
        "label": named(part["top_labels"][:, 0]),
        "split": pyarrow.array(part["split"].tolist()),
        "probability": _known(part["top_probabilities"][:, 0]),
        "entropy": _known(part["entropy"]),
        "margin": _known(part["margin"]),
        "given_label": named(part["given_label"]),
        "flips": pyarrow.array(part["flips"], mask=part["flips"] == row_history.UNKNOWN),
    }
    for k in range(1, found.top_k):
        columns[f"label_{k + 1}"] = named(part["top_labels"][:, k])
        columns[f"probability_{k + 1}"] = _known(part["top_probabilities"][:, k])
    return columns


def _known(values: np.ndarray) -> Any:
    return pyarrow.array(np.ascontiguousarray(values), mask=np.isnan(values))


def write_npz(path: Path, found: PseudoLabels) -> None:
    """All but the probabilities of all classes is held in memory until the end."""
    kept: dict[str, list[np.ndarray]] = defaultdict(list)
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("probabilities.npy", "w", force_zip64=True) if found.soft else contextlib.nullcontext() as member:
            if member is not None:
                shape = (len(found.flips) + len(found.test_ids), found.table.num_classes)
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
            for part in found.parts():
                probabilities = part.pop("probabilities")
                for name, values in part.items():
                    kept[name].append(values)
                if member is not None:
                    member.write(probabilities.astype("<f4", copy=False).data)
        arrays = {name: np.concatenate(values) for name, values in kept.items()}
        arrays |= {"label": arrays["top_labels"][:, 0], "probability": arrays["top_probabilities"][:, 0]}
        for name, values in (arrays | {"class_names": np.array(found.class_names)}).items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as own:
                np.lib.format.write_array(own, values, allow_pickle=False)


WRITERS: dict[str, Callable[[Path, PseudoLabels], None]] = {".csv": write_csv, ".parquet": write_parquet, ".npz": write_npz}


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    define_path("run_dir", "", "folder of a finished run", flag_values=flag_values)
    define_path("out", "", f"file to write, ending in {', '.join(WRITERS)}", flag_values=flag_values)
    define_data_dir(flag_values)
    flags.DEFINE_integer("top_k", 3, "classes that are named", lower_bound=1, flag_values=flag_values)
    flags.DEFINE_bool("soft", False, "write the probabilities of all classes, too", flag_values=flag_values)
    return run_with_flags(arguments, __doc__, flag_values, _run)


def _run(flag_values: flags.FlagValues) -> int:
    out = Path(flag_values["out"].value)
    if out.suffix not in WRITERS:
        raise ValueError(f"out ({out}) must end in one of {', '.join(WRITERS)}: change --out")
    run_dir, config, summary = finished.named(flag_values["run_dir"].value)
    run_directory.check_writable(out.parent)
    table = saved_table.read(run_dir / run_directory.TABLE_FILE)
    history = run_dir / run_directory.HISTORY_FILE
    moves = row_history.read(history, num_rows=len(table.labels), num_classes=table.num_classes)
    flips = moves.flips_of_all(len(table.labels))
    _, data = finished.images_of(run_dir, config, summary, data_dir=flag_values["data_dir"].value)
    run_images.check_classes(table, data)
    top_k, soft = (flag_values[name].value for name in ("top_k", "soft"))
    tests = (data.test_ids, data.test_labels) if data.test_ids is not None else ()
    found = PseudoLabels(table, flips, data.class_names, min(top_k, table.num_classes), soft, *tests)
    out.parent.mkdir(parents=True, exist_ok=True)
    with files.written_whole(out) as path:
        WRITERS[out.suffix](path, found)
    counts = f"{len(table.labeled_rows):,} labeled and {len(table.unlabeled_rows):,} unlabeled images"
    print(f"{run_directory.title_of(summary)}: the rows of {counts}, written to {out} ({out.stat().st_size / 2**20:.1f} MiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
