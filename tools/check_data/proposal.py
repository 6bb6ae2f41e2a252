"""What tools.check_data proposes: a recipe for the images, how long it takes, and the command that comes next."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import TFDS_PREFIX
from r2d2_tf.recipes.facts import Facts, remarks
from r2d2_tf.recipes.inputs import MINUTES
from r2d2_tf.recipes.proposed import Choice, flagfile
from r2d2_tf.recipes.recipe import recipes_for
from r2d2_tf.recipes.timed import QUICK_MINUTES, duration_text, quick_words, timed
from r2d2_tf.system import files, terminal
from r2d2_tf.system.commands import command_of
from r2d2_tf.system.messages import one_line

_WIDEST = 34
"""Characters of a flag beside which the reasons of all are in line."""


def tell(
    config: Config, facts: Facts, config_out: str, *, has_bad_images: bool, can_try: bool, can_train: bool, again: str
) -> None:
    """Prints what is proposed, and last the command that comes next; writes the flagfile.

    Args:
        config: of the data alone.
        facts: about them.
        config_out: flagfile to write; "": none.
        has_bad_images: some are to be left out.
        can_try: the proposal can be tried, for how long it takes; else that is reckoned.
        can_train: a run would take the images as they are.
        again: the command that looks at the images once more, if something is to be mended first.
    """
    recipes = recipes_for(facts)
    about = _about_the_data(config, has_bad_images)
    if can_try:
        print("\nTrying a few steps of what is proposed, for how long it takes ...", flush=True)
        recipes[0] = timed(recipes[0], dataclasses.replace(config, skip_bad_images=has_bad_images))
    recipe, *others = recipes
    lines = ["", f"Proposed: {recipe.about}", *_flag_lines(recipe.choices)]
    where = "this machine" if can_try else "a GPU of 10 TFLOP/s" if facts.has_gpu else "this machine's processors"
    lines += [f"A run takes {duration_text(recipe)} on {where}.", *remarks(facts)]
    if config_out:
        title = f"{one_line(config.data_dir)}: {facts.num_labeled:,} labeled + {facts.num_unlabeled:,} unlabeled images, "
        title += f"{facts.num_classes:,} classes. Proposed by tools.check_data;\nhyperparameters were not searched."
        Path(config_out).parent.mkdir(parents=True, exist_ok=True)
        files.write_text(Path(config_out), flagfile([*about, *recipe.choices], title))
        lines.append(f"Written to {config_out}.")
    else:
        lines.append("--config_out=my.cfg writes the proposal as a flagfile.")
    if others:
        other_ways = "; ".join(other.about for other in others)
        lines.append(f"Another way: {other_ways}. Labels that are held out choose the better one, as the command below does.")
    terminal.say("\n".join(lines))
    of_the_data = [f"--{choice.flag}={choice.value}" for choice in about]
    if again:
        _tell_to_mend(of_the_data if can_train else [], again)
    else:
        _tell_next(of_the_data, config_out, quick_words(facts, recipes), facts.minutes)


def _offer(why: str, command: str) -> None:
    terminal.say(why)
    # In one piece, to be pasted: no line of it is parted.
    print(f"  {command}")


def _tell_to_mend(of_the_data: Sequence[str], again: str) -> None:
    """`of_the_data`: [] where a run would refuse the images as they are."""
    if of_the_data:
        _offer("To train on it as it is:", command_of("r2d2_tf.train", *of_the_data))
    _offer("Next: mend what is told in capitals above, and look again:", again)


def _tell_next(of_the_data: Sequence[str], config_out: str, quick: str | None, minutes: float) -> None:
    """The commands; the last one is what should be done."""
    print()
    if config_out:
        _offer("To train by the proposal, and try nothing before:", command_of("r2d2_tf.train", f"--flagfile={config_out}"))
    if quick:
        command = command_of("r2d2_tf.train", *of_the_data, f"--minutes={QUICK_MINUTES:g}", "--name=first")
        _offer(f"A first model in {QUICK_MINUTES:g} minutes; {quick}:", command)
    within = [f"--minutes={minutes:g}"] * (minutes != MINUTES)
    _offer(f"Next, the full one, within {minutes:g} minutes (--minutes):", command_of("r2d2_tf.train", *of_the_data, *within))


def _flag_lines(choices: Sequence[Choice]) -> list[str]:
    """Each flag with its reason; of what is known of them that of most is told once, and that of others beside them."""
    written = [f"--{choice.flag}={choice.value}" for choice in choices]
    width = max(len(flag) for flag in written if len(flag) <= _WIDEST)
    most = Counter(choice.status for choice in choices).most_common(1)[0][0]
    whys = ("; ".join(filter(None, [choice.reason, choice.status * (choice.status != most)])) for choice in choices)
    return [
        *(f"  {flag:{width}}  {why}".rstrip() for flag, why in zip(written, whys, strict=True)),
        f"Where nothing else is said: {most}.",
    ]


def _about_the_data(config: Config, has_bad_images: bool) -> list[Choice]:
    """The flags that say what is trained on."""
    about = [Choice(name, f"{getattr(config, name)}", "", "the data") for name in ("dataset", "data_dir")]
    if config.labels:
        about.append(Choice("labels", config.labels, "", "the data"))
    elif config.dataset.startswith(TFDS_PREFIX):
        about.append(Choice("num_labels", f"{config.num_labels}", "labels are drawn; 0: all", "as tools.check_data was told"))
    if config.test_fraction:
        about.append(Choice("test_fraction", f"{config.test_fraction:g}", "no test images are set apart", "adopted"))
    if has_bad_images:
        about.append(Choice("skip_bad_images", "true", "some images cannot be read", "see tools.check_data"))
    return about
