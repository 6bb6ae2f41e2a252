"""The text of tools.check_data: what is in somebody's own images. Without TensorFlow."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import PHOTOGRAPH_SIZE
from r2d2_tf.data.file_kinds import about_16_bits
from r2d2_tf.data.image_data import DatasetSpec, ImageData
from r2d2_tf.data.labels.matching import alike_classes
from r2d2_tf.data.readers.file_search import find_images
from r2d2_tf.system.commands import command_of
from r2d2_tf.system.messages import columns, one_line
from tools.check_data.near_copies import FEWEST_PIXELS, MOST_PAIRS

if TYPE_CHECKING:
    from tools.check_data.image_inspection import Copies, InspectedImage, NearCopies

MOST_NAMED = 10
"""Names or classes that are printed of a list."""


def count_lines(config: Config, data: ImageData) -> Iterator[str]:
    """Images in all, and labeled training and test images a class; of many classes the largest and the smallest."""
    given = data.train_labels if data.given_labels is None else data.given_labels
    train = np.bincount(given[given >= 0], minlength=len(data.class_names))
    test = np.bincount(data.test_labels, minlength=len(data.class_names))
    yield f"{config.data_dir}: {len(given) + len(data.test_labels):,} images, {len(data.class_names):,} classes"
    drawn = f" ({config.test_fraction:g} of the labeled ones, --test_fraction)" if config.test_fraction else ""
    yield f"  {train.sum():,} labeled + {(given < 0).sum():,} unlabeled to train on, {test.sum():,} to test on{drawn}"
    order = np.argsort(-train, kind="stable")
    shown = order if len(order) <= 2 * MOST_NAMED else [*order[:MOST_NAMED], *order[-MOST_NAMED:]]
    cells = [[data.class_names[c], f"{train[c]:,}", f"{test[c]:,}"] for c in shown]
    lines = columns([["class", "labeled", "test"], *cells])
    if len(order) > len(shown):
        lines.insert(1 + MOST_NAMED, f"  ... {len(order) - len(shown):,} more ...")
    yield from lines


def size_lines(looks: "Sequence[InspectedImage]") -> Iterator[str]:
    """Sizes and kinds of the images."""
    known = np.array([(look.width, look.height) for look in looks if look.width])
    if not len(known):
        return
    shorter = known.min(1)
    low, middle, high = (np.percentile(known, q, axis=0).astype(int) for q in (0, 50, 100))
    yield f"Sizes: {low[0]}x{low[1]} to {high[0]}x{high[1]} pixels (width x height), median {middle[0]}x{middle[1]}"
    kinds = Counter(look.kind for look in looks if look.kind).most_common(MOST_NAMED)
    yield "  " + ", ".join(f"{count:,} {kind}" for kind, count in kinds)
    is_file = "pixels" not in kinds[0][0]
    if small := int((shorter < PHOTOGRAPH_SIZE).sum()) if is_file else 0:
        yield f"  {small:,} have a shorter side below {PHOTOGRAPH_SIZE} pixels: at that --image_size they would be enlarged"
    if turned := sum(look.is_turned for look in looks):
        yield f"  {turned:,} are stored turned (EXIF), and are seen as a viewer shows them"
    if profiles := sum(look.has_profile for look in looks):
        yield f"  {profiles:,} have a color profile (ICC), which is not applied: where it is not sRGB, convert them"


def other_lines(config: Config) -> Iterator[str]:
    """What a folder holds beside images."""
    if config.dataset != "folder" or config.data_path is None:
        return
    found = find_images(config.data_path)
    if not_read := found.not_read():
        yield f"Not looked at: {', '.join(not_read)}"
    if found.tables and not config.labels:
        flags = f"--data_dir={config.data_dir}", f"--labels={config.data_path / found.tables[0]}"
        yield f"{one_line(found.tables[0])} may hold labels: {command_of('tools.check_data', *flags)}"
    if found.loops:
        yield f"Not followed: links to folders that hold them: {_some(found.loops, str)}"


def remark_lines(spec: DatasetSpec, class_names: Sequence[str]) -> Iterator[str]:
    """What may be otherwise than it was meant."""
    for remark in dict.fromkeys([*spec.remarks, *(spec.labels.remarks if spec.labels else ()), *alike_classes(class_names)]):
        yield f"{remark[0].upper()}{remark[1:]}"


def lost_class_lines(lost: Sequence[str]) -> Iterator[str]:
    """Folders among those of classes that give no image."""
    if lost:
        yield f"NO IMAGE OF A CLASS: {len(lost):,} folders stand where classes do; add images that are read, or remove them"
        yield from (f"  {line}" for line in lost[:MOST_NAMED])
        if len(lost) > MOST_NAMED:
            yield f"  and {len(lost) - MOST_NAMED:,} more"


def unreadable_lines(looks: "Sequence[InspectedImage]") -> Iterator[str]:
    """Images that cannot be used."""
    bad = [look for look in looks if look.problem]
    if bad:
        yield f"UNREADABLE: {len(bad):,} images cannot be used; mend or remove them, or train with --skip_bad_images"
        yield from (f"  {look.name!r}: {look.problem}" for look in bad[:MOST_NAMED])
        if len(bad) > MOST_NAMED:
            yield f"  and {len(bad) - MOST_NAMED:,} more"


def depth_lines(looks: "Sequence[InspectedImage]") -> Iterator[str]:
    """Images of which 8 of 16 bits are kept."""
    if about := about_16_bits([look.peak for look in looks if look.peak >= 0]):
        yield f"16 BITS: {about}"


def stray_lines(looks: "Sequence[InspectedImage]") -> Iterator[str]:
    """JPEG files that the decoder warns of."""
    if names := [look.name for look in looks if look.has_stray_bytes]:
        yield f"Stray bytes in {len(names):,} JPEG files, shown all the same: save them again"
        yield f"  {_some(names, repr)}"


def unlabeled_class_lines(names: Sequence[str]) -> Iterator[str]:
    """Classes of which no training image has a label."""
    if names:
        count = "1 class has" if len(names) == 1 else f"{len(names):,} classes have"
        yield f"WITHOUT A LABEL: {count} no labeled training image, and could not be trained: {_some(names, one_line)}"


def copy_lines(copies: "Sequence[Copies]", class_names: Sequence[str]) -> Iterator[str]:
    """Equal images, the worst kinds first."""

    def names(group: "Copies") -> str:
        more = f" = {len(group.looks) - MOST_NAMED:,} more" if len(group.looks) > MOST_NAMED else ""
        return " = ".join(_named(look, class_names) for look in group.looks[:MOST_NAMED]) + more

    leak = "LEAK: test images that are among the training images, so that errors come out too low"
    kinds = {
        leak: [group for group in copies if group.is_leak],
        "CONTRADICTION: equal images with different labels": [group for group in copies if group.is_contradiction],
        "Copies: equal images, which count twice": [g for g in copies if not g.is_leak and not g.is_contradiction],
    }
    for title, groups in kinds.items():
        if groups:
            yield f"{title} ({len(groups):,} of them)"
            yield from (f"  {names(group)}" for group in groups[:MOST_NAMED])
            if len(groups) > MOST_NAMED:
                yield f"  and {len(groups) - MOST_NAMED:,} more"

    if of_files := sum(group.is_of_files for group in copies):
        yield f"  {of_files:,} of these {len(copies):,} groups are of files that differ, and hold the same pixels"


def near_copy_lines(near: "NearCopies", class_names: Sequence[str]) -> Iterator[str]:
    """Images that look alike: a warning, as pictures of a burst may be meant."""
    if not near.pairs:
        return
    leaks = sum(a.is_test != b.is_test for a, b in near.pairs)
    others = sum(a.label >= 0 and b.label >= 0 and a.label != b.label for a, b in near.pairs)
    what = f"{leaks:,} of them a test and a training image, {others:,} of different labels"
    yield (
        f"Near copies: {len(near.pairs):,}{' or more' * (len(near.pairs) >= MOST_PAIRS)} pairs look alike, {what}; were they "
        "saved again, resized, or taken in a burst? The nearest:"
    )
    # What makes errors too low comes first.
    worst_first = sorted(near.pairs, key=lambda pair: pair[0].is_test == pair[1].is_test)
    yield from (f"  {_named(a, class_names)} ~ {_named(b, class_names)}" for a, b in worst_first[:MOST_NAMED])
    yield (
        f"  {near.compared:,} of {near.of:,} images were compared, those of {FEWEST_PIXELS} pixels or more that are not nearly "
        "of one color; copies that were turned or cut are not found"
    )


def plain_lines(looks: "Sequence[InspectedImage]") -> Iterator[str]:
    """Images that show nothing once they are decoded."""
    plain = [look for look in looks if look.is_plain]
    if plain:
        yield (
            f"SINGLE COLOR: {len(plain):,} of {len(looks):,} images are of one color once decoded, and show nothing: "
            f"{_some([look.name for look in plain], repr)}"
        )


def _named(look: "InspectedImage", class_names: Sequence[str]) -> str:
    classes = (*class_names, "unlabeled")
    return f"{look.name!r} ({'test, ' * look.is_test}{one_line(classes[look.label])})"


def _some(items: Sequence[str], shown: Callable[[str], str]) -> str:
    more = f" and {len(items) - MOST_NAMED:,} more" if len(items) > MOST_NAMED else ""
    return ", ".join(map(shown, items[:MOST_NAMED])) + more
