"""`python -m tools.reproduce.feature_plot --run_dir=RUN [--data_dir=DIR]`: figure 2 of the paper.

Draws the 2-D features of a finished run of --backbone=lenet_2d in four panels, each point an image, each color a class:
labeled images and all training images, before D2 (after stage 1) and after it (after stage 2). Writes RUN/features.png and
prints how compact the classes are: the variance within classes as a share of all variance, in percent (0: each class
is one point; 100: the classes are not told apart).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from r2d2_tf import backbones
from r2d2_tf.config.command_line import run_with_flags
from r2d2_tf.config.config import Config
from r2d2_tf.config.path_flags import define_data_dir, define_path
from r2d2_tf.data.image_data import ImageData
from r2d2_tf.runs import finished, run_directory
from r2d2_tf.runs.other_runs import stage_1_network
from r2d2_tf.system import arrays
from tools.shared import plots

PICTURE = "features.png"
BACKBONE = "lenet_2d"
Panel = tuple[str, np.ndarray, np.ndarray]
"""Title, features `[images, 2]` and labels."""


def variance_within(features: np.ndarray, labels: np.ndarray) -> float:
    """Variance of features `[images, dimensions]` within classes `[images]` as a share of all variance, in percent."""
    total = np.square(features - features.mean(0)).sum()
    within = sum(np.square(own - own.mean(0)).sum() for own in (features[labels == c] for c in np.unique(labels)))
    return 100.0 * float(within / total)


def features_of(path: Path, images: np.ndarray, batch_size: int) -> np.ndarray:
    """The 2-D features that a saved network gives `images`, `[images, 2]`."""
    import keras

    network = backbones.load(path)
    inner = network.get_layer(BACKBONE)
    to_feature = keras.Model(inner.inputs, inner.get_layer("feature").output)
    model = keras.Sequential([network.get_layer("normalize"), to_feature])
    return model.predict(images, batch_size=batch_size, verbose=0)


def networks_of(folder: Path, config: Config) -> list[Path]:
    """The networks of a run after stage 1, which may be that of another run, and after stage 2.

    Raises:
        ValueError: if one is missing, or its features are not 2-D.
    """
    if config.backbone != BACKBONE:
        raise ValueError(f"features of {config.backbone} have more than two dimensions: train with --backbone={BACKBONE}")
    networks = [stage_1_network(folder, config), folder / run_directory.STAGE_2_FILE]
    for path in networks:
        if not path.is_file():
            raise ValueError(f"there is no {path}: give a run that trained stages 1 and 2")
    return networks


def panels_of(networks: Sequence[Path], data: ImageData, labeled: np.ndarray, batch_size: int) -> list[Panel]:
    """Labeled images and all training images in the eyes of the networks after stage 1 and after stage 2."""
    panels = []
    for when, network in zip(("after stage 1", "after D2 (stage 2)"), networks, strict=True):
        features = features_of(network, np.asarray(data.train_images), batch_size)
        panels.append((f"{len(labeled):,} labeled images, {when}", features[labeled], data.train_labels[labeled]))
        known = data.train_labels >= 0
        whose = "all" if known.all() else "those of known class of all"
        panels.append((f"{whose} {len(features):,} training images, {when}", features[known], data.train_labels[known]))
    return panels


def draw(panels: Sequence[Panel], class_names: Sequence[str], title: str, path: Path) -> None:
    """Draws four panels in two rows."""
    from matplotlib.lines import Line2D

    figure, axes = plots.pyplot().subplots(2, 2, figsize=(9, 9), layout="constrained")
    for place, (name, features, labels) in zip(axes.ravel(), panels, strict=True):
        size = 6 if len(features) < 5000 else 0.5
        place.scatter(*features.T, c=labels, cmap="tab10", vmin=-0.5, vmax=9.5, s=size, linewidths=0, rasterized=True)
        place.set_title(f"{name}\nvariance within classes: {variance_within(features, labels):.1f} %", fontsize=10)
        place.spines[["top", "right"]].set_visible(False)
        place.tick_params(labelsize=8)
    colors = [Line2D([], [], marker="o", linestyle="", color=f"C{c}", label=n) for c, n in enumerate(class_names)]
    figure.legend(handles=colors, loc="outside lower center", ncols=len(class_names), edgecolor="none")
    figure.suptitle(title)
    plots.save(figure, path)


def main(arguments: Sequence[str]) -> int:
    flag_values = flags.FlagValues()
    define_path("run_dir", "", "folder of a finished run", flag_values=flag_values)
    define_data_dir(flag_values)
    return run_with_flags(arguments, __doc__, flag_values, _run)


def _run(flag_values: flags.FlagValues) -> int:
    folder, config, summary = finished.named(flag_values["run_dir"].value)
    title = run_directory.title_of(summary)
    networks = networks_of(folder, config)
    table_file, layout = folder / run_directory.TABLE_FILE, run_directory.TABLE_LAYOUT
    given_labels = arrays.read(table_file, layout, ["given_labels"])["given_labels"]
    data_dir = flag_values["data_dir"].value
    _, data = finished.images_of(folder, config, summary, data_dir=data_dir)
    if not isinstance(data.train_images, np.ndarray):
        raise ValueError(f"{folder} was trained on photographs; features are drawn of images in memory alone")
    if len(given_labels) != len(data.train_labels):
        raise ValueError(f"the run had {len(given_labels)} training images and the data set has {len(data.train_labels)}")
    panels = panels_of(networks, data, np.flatnonzero(given_labels >= 0), config.eval_batch_size)
    print(title)
    for name, features, labels in panels:
        print(f"{name}: variance within classes {variance_within(features, labels):.1f} %")
    draw(panels, data.class_names, f"{title}: features, colored by true class", folder / PICTURE)
    print(f"written to {folder / PICTURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
