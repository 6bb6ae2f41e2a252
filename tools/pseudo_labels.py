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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from r2d2_tf.config.command_line import run_with_flags
from r2d2_tf.data.labels.label_formats import PROBABILITY_OF
from r2d2_tf.runs import finished, run_directory
from r2d2_tf.system import files
from tools.shared import row_history, run_images, saved_table
from tools.shared.saved_table import SavedTable


@dataclass(frozen=True)
class Part:
    """Some rows, one after another.

    Attributes:
        split: of all of them: `train` or `test`.
        file: ids, `[rows]`.
        given: classes, `[rows]`; -1: none.
        flips: `[rows]`; row_moves.UNKNOWN where labels were given.
        entropy: nats, `[rows]`; of test images, which have no row in the table, NaN, as all that follows.
        margin: `[rows]`.
        top_labels: the most probable classes, the first one first, `[rows, k]`; of test images their class, then -1.
        top_probabilities: of them, `[rows, k]`.
        probabilities: of all classes, `[rows, classes]`.
    """

    split: str
    file: np.ndarray
    given: np.ndarray
    flips: np.ndarray
    entropy: np.ndarray
    margin: np.ndarray
    top_labels: np.ndarray
    top_probabilities: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class PseudoLabels:
    """What is to be written.

    Attributes:
        table: that was learned.
        flips: of its rows, `[rows]`.
        class_names: in the order of the labels.
        top_k: classes that are named.
        soft: whether the probabilities of all classes are written, too.
        test_ids: names of test images, if they have any.
        test_labels: of those.
    """

    table: SavedTable
    flips: np.ndarray
    class_names: Sequence[str]
    top_k: int
    soft: bool
    test_ids: Sequence[str] = ()
    test_labels: Sequence[int] | np.ndarray = ()

    def parts(self) -> Iterator[Part]:
        """All rows, from the first to the last, with a bar for people, and then the test images."""
        with tqdm(total=len(self.flips), unit="row", leave=False, disable=None) as bar:
            for rows, probabilities in self.table.walk():
                top = np.argsort(-probabilities, axis=1, kind="stable")[:, : max(self.top_k, 2)]
                of_top = np.take_along_axis(probabilities, top, 1)
                yield Part(
                    "train",
                    np.array(self.table.ids[rows]),
                    np.array(self.table.labels[rows]),
                    self.flips[rows],
                    saved_table.entropy_of(probabilities),
                    of_top[:, 0] - of_top[:, 1],
                    top[:, : self.top_k],
                    of_top[:, : self.top_k],
                    probabilities,
                )
                bar.update(len(probabilities))
        if len(self.test_ids):
            yield self._test_part()

    def _test_part(self) -> Part:
        count, labels = len(self.test_ids), np.asarray(self.test_labels, np.int64)
        unknown = np.full((count, self.table.num_classes), np.nan, np.float32)
        top = np.full((count, self.top_k), -1, np.int64)
        top[:, 0] = labels
        nothing, flips = unknown[:, 0], np.full(count, row_history.UNKNOWN, self.flips.dtype)
        return Part("test", np.array(self.test_ids), labels, flips, nothing, nothing, top, unknown[:, : self.top_k], unknown)


def write_csv(path: Path, found: PseudoLabels) -> None:
    """A header, and a line a row; numbers with nine digits, from which float32 comes back exactly."""
    header = ["file", "label", "split", "probability", "entropy", "margin", "given_label", "flips"]
    header += [f"{name}_{k}" for k in range(2, found.top_k + 1) for name in ("label", "probability")]
    header += [f"{PROBABILITY_OF}{name}" for name in found.class_names] if found.soft else []
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for part in found.parts():
            writer.writerows(_csv_row(part, i, found.class_names, found.soft) for i in range(len(part.file)))


def _csv_row(part: Part, i: int, names: Sequence[str], soft: bool) -> list[object]:
    tops = zip(part.top_labels[i].tolist(), part.top_probabilities[i].tolist(), strict=True)
    (label, probability), *others = [(names[c] if c >= 0 else "", _digits(p)) for c, p in tops]
    return [
        part.file[i],
        label,
        part.split,
        probability,
        _digits(part.entropy[i]),
        _digits(part.margin[i]),
        names[part.given[i]] if part.given[i] >= 0 else "",
        part.flips[i] if part.flips[i] != row_history.UNKNOWN else "",
        *(cell for pair in others for cell in pair),
        *(_digits(p) for p in (part.probabilities[i].tolist() if soft else ())),
    ]


def _digits(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.9g}"


def write_parquet(path: Path, found: PseudoLabels) -> None:
    """A group of rows a part."""
    from pyarrow import parquet

    writer = None
    try:
        for part in found.parts():
            group = _arrow_table(part, found)
            writer = writer or parquet.ParquetWriter(path, group.schema)
            writer.write_table(group)
    finally:
        if writer is not None:
            writer.close()


def _arrow_table(part: Part, found: PseudoLabels) -> Any:
    import pyarrow

    names = np.array(found.class_names, object)

    def named(classes: np.ndarray) -> Any:
        return pyarrow.array(names[classes], pyarrow.string(), mask=classes < 0)

    def known(values: np.ndarray) -> Any:
        return pyarrow.array(np.ascontiguousarray(values), mask=np.isnan(values))

    columns = {
        "file": pyarrow.array(part.file.tolist(), pyarrow.string()),
        "label": named(part.top_labels[:, 0]),
        "split": pyarrow.array([part.split] * len(part.file)),
        "probability": known(part.top_probabilities[:, 0]),
        "entropy": known(part.entropy),
        "margin": known(part.margin),
        "given_label": named(part.given),
        "flips": pyarrow.array(part.flips, mask=part.flips == row_history.UNKNOWN),
    }
    for k in range(1, found.top_k):
        columns[f"label_{k + 1}"] = named(part.top_labels[:, k])
        columns[f"probability_{k + 1}"] = known(part.top_probabilities[:, k])
    if found.soft:
        flat, none = pyarrow.array(part.probabilities.ravel()), pyarrow.array(np.isnan(part.probabilities[:, 0]))
        columns["probabilities"] = pyarrow.FixedSizeListArray.from_arrays(flat, len(names), mask=none)
    return pyarrow.table(columns, metadata={"class_names": json.dumps(list(found.class_names))})


def write_npz(path: Path, found: PseudoLabels) -> None:
    """All but the probabilities of all classes is held in memory until the end."""
    columns = ("file", "given", "flips", "entropy", "margin", "top_labels", "top_probabilities")
    kept: dict[str, list[np.ndarray]] = {name: [] for name in columns}
    splits: list[str] = []
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("probabilities.npy", "w", force_zip64=True) if found.soft else contextlib.nullcontext() as member:
            if member is not None:
                shape = (len(found.flips) + len(found.test_ids), found.table.num_classes)
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
            for part in found.parts():
                splits += [part.split] * len(part.file)
                for name in columns:
                    kept[name].append(getattr(part, name))
                if member is not None:
                    member.write(part.probabilities.astype("<f4", copy=False).data)
        arrays = {name: np.concatenate(values) for name, values in kept.items()}
        arrays |= {"label": arrays["top_labels"][:, 0], "probability": arrays["top_probabilities"][:, 0]}
        arrays |= {
            "files": arrays.pop("file"),
            "given_label": arrays.pop("given"),
            "class_names": np.array(found.class_names),
            "split": np.array(splits),
        }
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as own:
                np.lib.format.write_array(own, values, allow_pickle=False)


WRITERS: dict[str, Callable[[Path, PseudoLabels], None]] = {".csv": write_csv, ".parquet": write_parquet, ".npz": write_npz}


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    flags.DEFINE_string("run_dir", "", "folder of a finished run", flag_values=flag_values)
    flags.DEFINE_string("out", "", f"file to write, ending in {', '.join(WRITERS)}", flag_values=flag_values)
    flags.DEFINE_string("data_dir", "", "folder of the data set, if not that of the run", flag_values=flag_values)
    flags.DEFINE_integer("top_k", 3, "classes that are named", lower_bound=1, flag_values=flag_values)
    flags.DEFINE_bool("soft", False, "write the probabilities of all classes, too", flag_values=flag_values)
    return run_with_flags(arguments, __doc__, flag_values, _run)


def _run(flag_values: flags.FlagValues) -> int:
    out = Path(flag_values["out"].value).expanduser()
    if out.suffix not in WRITERS:
        raise ValueError(f"out ({out}) must end in one of {', '.join(WRITERS)}: change --out")
    run_dir, config, summary = finished.named(flag_values["run_dir"].value)
    run_directory.check_writable(out.parent)
    table = saved_table.read(run_dir / run_directory.TABLE_FILE)
    flips = row_history.read(run_dir / run_directory.HISTORY_FILE).flips_of_all(len(table.labels))
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
