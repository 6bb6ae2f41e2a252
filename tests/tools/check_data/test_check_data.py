"""What somebody is told of his images before training, and the config that is proposed."""

import contextlib
import dataclasses
import io
import shutil

import numpy as np
import pytest
from own_photographs import COLORS, colored_folder, photograph, write_csv
from PIL import Image
from test_folder import npz

from r2d2_tf import backbones, train
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.runs.dataset import spec_of
from tools.check_data import __main__ as check_data
from tools.check_data import proposal
from tools.check_data.proposal import Facts, flagfile, propose, recipe_for, seconds_of
from tools.reproduce import fake_data

FACTS = Facts(
    num_labeled=100,
    num_unlabeled=900,
    num_test=100,
    fewest=10,
    most=10,
    num_classes=10,
    image_shape=None,
    shorter_side=400,
    has_gpu=False,
    hours=2.0,
)


def checked(*arguments, capsys):
    code = check_data.main(arguments)
    out, error = capsys.readouterr()
    return code, out, error


@pytest.fixture(scope="module")
def sick_folder(tmp_path_factory):
    """A folder with everything wrong with it that does not stop a run."""
    folder = colored_folder(tmp_path_factory.mktemp("own") / "photos", kinds=("png",))
    (folder / "unlabeled" / "bad\nname.jpg").write_bytes(b"<html>")
    (folder / "unlabeled" / "empty.jpg").write_bytes(b"")
    Image.new("1", (20_000, 20_000)).save(folder / "unlabeled" / "bomb.png")
    shutil.copy(folder / "test" / "red" / "more" / "red_test_0.png", folder / "unlabeled" / "leak.png")
    shutil.copy(folder / "train" / "red" / "red_0.png", folder / "train" / "blue" / "red too.png")
    shutil.copy(folder / "unlabeled" / "00.png", folder / "unlabeled" / "00 again.png")
    (folder / "notes.txt").write_text("x")
    (folder / "circle").symlink_to(folder)
    turned = Image.new("RGB", (40, 30), (9, 9, 9))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "unlabeled" / "turned.jpg", exif=exif)
    return folder


@pytest.fixture(scope="module")
def sick_report(sick_folder, tmp_path_factory):
    """Exit code, what is printed, and the sheet."""
    before = sorted(sick_folder.rglob("*"))
    sheet = tmp_path_factory.mktemp("sheets") / "sheet.png"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = check_data.main([f"--data_dir={sick_folder}", f"--sheet={sheet}"])
    assert sorted(sick_folder.rglob("*")) == before, "nothing is written into the folder"
    return code, out.getvalue(), sheet


def test_what_is_wrong_with_images_is_named(sick_report):
    code, out, _ = sick_report
    assert code == 1
    assert "40 images, 3 classes" in out
    assert "13 labeled + 18 unlabeled to train on, 9 to test on" in out
    assert "UNREADABLE: 3 images" in out
    assert r"'unlabeled/bad\nname.jpg': it is a web page (HTML), and no image" in out
    assert "'unlabeled/empty.jpg': it is empty" in out
    assert "'unlabeled/bomb.png': it has more than 89,478,485 pixels" in out
    assert "'unlabeled/leak.png' (unlabeled) = 'test/red/more/red_test_0.png' (test, red)" in out
    assert "'train/blue/red too.png' (blue) = 'train/red/red_0.png' (red)" in out
    assert "'unlabeled/00 again.png' (unlabeled) = 'unlabeled/00.png' (unlabeled)" in out
    assert out.index("LEAK") < out.index("CONTRADICTION") < out.index("Copies")
    assert "1 are stored turned (EXIF), and are seen as a viewer shows them" in out
    assert "1 files *.txt" in out
    assert "links to folders that hold them: circle" in out


def test_depth_stray_bytes_profiles_and_other_kinds_are_told_by_name(tmp_path, capsys):
    folder = colored_folder(tmp_path / "photos", kinds=("png",))
    unlabeled = folder / "unlabeled"
    Image.fromarray(np.full((30, 30), 759, np.uint16)).save(unlabeled / "deep.png")
    red = Image.new("RGB", (30, 30), COLORS["red"])
    red.save(unlabeled / "profile.png", icc_profile=bytes(200))
    file = io.BytesIO()
    red.save(file, "JPEG")
    (unlabeled / "stray.jpg").write_bytes(file.getvalue()[:-2] + bytes([17]) * 60 + file.getvalue()[-2:])
    red.save(unlabeled / "web.avif")
    (unlabeled / "web.avif").rename(unlabeled / "web.jpg")
    code, out, error = checked(f"--data_dir={folder}", "--sheet=", capsys=capsys)
    assert (code, error) == (1, "")
    assert "16 BITS: 1 images have 16 bits a channel" in out
    assert "theirs reach only 759 of 65,535" in out
    assert "Stray bytes in 1 JPEG files, shown all the same: save them again\n  'unlabeled/stray.jpg'" in out
    assert "1 have a color profile (ICC)" in out
    assert "'unlabeled/web.jpg': it is AVIF, which is not read: convert it to JPEG" in out


def test_the_sheet_shows_a_row_a_class_as_the_network_sees_it(sick_report):
    with Image.open(sick_report[2]) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    height = pixels.shape[0]
    for row, color in enumerate(COLORS.values()):
        band = pixels[int(height * (row + 0.3) / 4.4) : int(height * (row + 1) / 4.4)]
        near = np.abs(band - np.array(color)).max(-1) < 60
        assert near.mean() > 0.05, "its color is seen"


def test_healthy_images_are_no_error_and_their_config_is_written(tmp_path, capsys):
    folder = colored_folder(tmp_path / "two words", test=0)
    config_path = tmp_path / "my.cfg"
    code, out, error = checked(f"--data_dir={folder}", "--sheet=", f"--config_out={config_path}", "--hours=0.01", capsys=capsys)
    assert (code, error) == (0, "")
    assert "(0.2 of the labeled ones, --test_fraction)" in out
    assert "No image is unreadable, and none is there twice." in out
    assert f"-m r2d2_tf.train --flagfile={config_path}" in out
    config = from_command_line([f"--flagfile={config_path}"])
    assert (config.dataset, config.data_dir, config.test_fraction) == ("folder", str(folder), 0.2)
    assert config.name == "my"


@pytest.mark.slow
def test_a_proposal_trains_as_it_is_but_for_its_lengths(tmp_path, capsys):
    folder, config_path = colored_folder(tmp_path / "two words", test=0), tmp_path / "my.cfg"
    checked(f"--data_dir={folder}", "--sheet=", f"--config_out={config_path}", "--hours=0.01", capsys=capsys)
    short = [
        "--supervised_epochs=1",
        "--rounds=1:0.001",
        "--finetune_epochs=0",
        "--backbone=conv_small",
        "--nostop_on_collapse",
    ]
    assert train.main([f"--flagfile={config_path}", *short, f"--run_dir={tmp_path / 'run'}"]) == 0


def test_an_npz_file_is_checked_too(tmp_path, capsys):
    code, out, _ = checked(f"--data_dir={npz(tmp_path / 'bugs.npz')}", f"--sheet={tmp_path / 's.png'}", capsys=capsys)
    assert code == 0
    assert "12 labeled + 28 unlabeled to train on, 5 to test on" in out
    assert "--backbone=conv_small" in out
    assert "image_size" not in out
    assert (tmp_path / "s.png").is_file()


def test_classes_that_nobody_labeled_are_named(tmp_path, capsys):
    path = npz(tmp_path / "bugs.npz", class_names=np.array(["ant", "bee", "fly", "flea", "wasp"]))
    code, out, _ = checked(f"--data_dir={path}", "--sheet=", capsys=capsys)
    assert code == 1
    assert "WITHOUT A LABEL: 2 classes have no labeled training image, and could not be trained: flea, wasp" in out


def test_images_that_cannot_be_read_are_left_out_of_what_is_proposed(tmp_path, capsys):
    folder = colored_folder(tmp_path / "photos", kinds=("png",))
    for path in (folder / "train" / "red").iterdir():
        path.write_bytes(b"x")
    code, out, _ = checked(f"--data_dir={folder}", "--sheet=", capsys=capsys)
    assert code == 1
    assert "WITHOUT A LABEL: 1 class has no labeled training image, and could not be trained: red" in out
    assert "The smallest class has 0 labeled images" in out


def test_classes_that_differ_in_capitals_or_composition_alone_are_told(tmp_path, capsys):
    names = ["ant", "Ant", "\u00e9t\u00e9", "e\u0301te\u0301", "fly"]
    labels = np.where(np.arange(40) < 10, np.arange(40) % 5, -1)
    path = npz(tmp_path / "bugs.npz", class_names=np.array(names), labels=labels)
    code, out, _ = checked(f"--data_dir={path}", "--sheet=", capsys=capsys)
    assert (code, out.count("Two classes?")) == (0, 2)
    assert "Two classes? 'ant' and 'Ant' differ in capitals" in out


@pytest.mark.parametrize(("flags", "count"), [(["--num_labels=20"], 20), ([], 0)])
def test_of_a_tfds_set_the_labels_are_counted_that_the_proposed_run_draws(flags, count, tmp_path, capsys):
    fake_data.make("svhn", tmp_path)
    config_path = tmp_path / "my.cfg"
    set_flags = ["--dataset=tfds:svhn_cropped", f"--data_dir={tmp_path}"]
    _, out, _ = checked(*set_flags, *flags, "--sheet=", f"--config_out={config_path}", capsys=capsys)
    total = len(spec_of(from_command_line([*set_flags, "--num_labels=0"])).load(tmp_path).train_labels)
    assert f"  {count or total} labeled + {total - count if count else 0} unlabeled to train on" in out
    assert from_command_line([f"--flagfile={config_path}"]).num_labels == count


def test_a_file_of_labels_is_checked_with_its_folder(tmp_path, capsys):
    folder = colored_folder(tmp_path / "photos", kinds=("png",))
    rows = [("unlabeled/00.png", "yes"), ("unlabeled/01.png", "no"), ("unlabeled/02.png", "yes"), ("unlabeled/04.png", "no")]
    labels = write_csv(
        tmp_path / "labels.csv", [(*row, "test" if i > 1 else "") for i, row in enumerate(rows)], ("file", "label", "split")
    )
    code, out, _ = checked(f"--data_dir={folder}", f"--labels={labels}", "--sheet=", capsys=capsys)
    assert code == 0
    assert "2 labeled + 29 unlabeled to train on, 2 to test on" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say which images to look at: --data_dir=PHOTOS"),
        (["--data_dir=/nowhere-at-all"], "is no folder of images"),
        (["--data_dir=x", "--dataset=mnist"], "must be folder, npz or tfds:NAME"),
        (["--data_dir=x", "--device=tpu"], "cannot read the flags"),
        (["--data_dir=x", "--sheat=1"], "did you mean --sheet?"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys):
    code, out, error = checked(*arguments, capsys=capsys)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert message in error


def values_of(**changes):
    return {choice.flag: choice.value for choice in propose(dataclasses.replace(FACTS, **changes))}


CASES = {
    "two classes, ten unlabeled images": {"num_classes": 2, "num_labeled": 2, "num_unlabeled": 10, "fewest": 1, "most": 1},
    "no unlabeled images": {"num_unlabeled": 0},
    "a million images of a thousand classes": {"num_classes": 1000, "num_labeled": 50_000, "num_unlabeled": 1_000_000},
    "unequal classes": {"fewest": 1, "most": 5000, "num_labeled": 6000},
    "small images in files": {"shorter_side": 28},
    "images of a few pixels in files": {"shorter_side": 3},
    "digits": {"image_shape": (28, 28, 1)},
    "small pixels": {"image_shape": (17, 40, 3)},
    "tiny pixels": {"image_shape": (6, 6, 1)},
    "large grey pixels": {"image_shape": (96, 96, 1)},
}


@pytest.mark.parametrize("has_gpu", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_every_proposal_is_a_config_that_is_allowed_and_has_a_batch(case, has_gpu, tmp_path):
    facts = dataclasses.replace(FACTS, has_gpu=has_gpu, **CASES[case])
    choices = propose(facts)
    (tmp_path / "my.cfg").write_text("--dataset=npz\n" + flagfile([c for c in choices if c.flag != "image_size"], "title"))
    config = from_command_line([f"--flagfile={tmp_path / 'my.cfg'}"])
    assert all(choice.status for choice in choices)
    size = next((int(choice.value) for choice in choices if choice.flag == "image_size"), 0)
    shape = facts.image_shape or (size, size, 3)
    if max(shape) < 64:
        backbones.build(config.backbone, shape, facts.num_classes, mean=(0.5,) * shape[-1], std=(0.2,) * shape[-1])
    if proposal.has_stage_2(facts):
        assert facts.num_unlabeled >= config.batch_size - config.labeled_per_batch
    else:
        assert (config.rounds, config.finetune_epochs) == ("", 0)
    assert seconds_of(facts, recipe_for(facts), choices, 64) > 0


def test_data_like_those_of_a_config_are_given_that_config():
    for facts, name in (
        (FACTS, "photographs_cpu"),
        (dataclasses.replace(FACTS, image_shape=(28, 28, 1), num_unlabeled=3900), "mnist5k"),
    ):
        assert recipe_for(facts).config == name
        own = from_command_line([f"--flagfile={proposal.CONFIGS / name}.cfg"])
        values = {choice.flag: choice.value for choice in propose(facts)}
        for flag in ("backbone", "rounds", "batch_size", "pseudo_label_lr", "supervised_epochs"):
            shown = getattr(own, flag)
            assert values[flag] in (f"{shown}", f"{shown:g}" if isinstance(shown, float) else ""), flag


def test_what_changes_follows_its_rule():
    few = values_of(num_labeled=20, num_unlabeled=100)
    assert int(few["supervised_batch_size"]) == 4, "five steps an epoch"
    assert int(few["batch_size"]) == 8, "ten steps an epoch or more, by halves"
    assert few["pseudo_label_lr"] != "8000"
    rounds = [part.split(":") for part in few["rounds"].split(",")]
    visits = sum(int(epochs) for epochs, _ in rounds)
    assert float(few["pseudo_label_lr"]) * visits == pytest.approx(8000 * 8, rel=0.01), "a row goes as far in all"
    assert float(rounds[0][1]) == pytest.approx(0.02 / 4), "in proportion to the batch"


def test_the_rate_of_stage_3_falls():
    values = values_of()
    assert int(values["finetune_epochs"]) >= 3, "in one epoch it would stay"
    assert values["finetune_cosine_epochs"] == values["finetune_epochs"]


def test_the_size_of_photographs_is_what_the_time_and_the_files_allow():
    assert values_of(hours=100.0)["image_size"] == "224"
    assert values_of(hours=0.01)["image_size"] == "64"
    assert values_of(hours=100.0, shorter_side=150)["image_size"] == "160"
    assert int(values_of(hours=0.5)["image_size"]) < 224


def test_small_images_in_files_are_shown_in_their_own_size_to_the_network_for_small_images():
    for shorter_side, size, backbone in (
        (28, "28", "conv_small"),
        (48, "48", "conv_small"),
        (3, "16", "conv_small"),
        (49, "64", "resnet18"),
    ):
        values = values_of(shorter_side=shorter_side)
        assert (values["image_size"], values["backbone"], values["translate"]) == (size, backbone, "0")
        assert values["flip"] == ("true" if backbone == "resnet18" else "false"), "a digit is another one in a mirror"


def test_what_is_unusual_is_said():
    assert proposal.remarks(dataclasses.replace(FACTS, image_shape=(32, 32, 3))) == []
    lines = "\n".join(proposal.remarks(dataclasses.replace(FACTS, fewest=1, most=500, num_test=20)))
    assert "unequal (1 to 500 labeled images)" in lines
    assert "smallest class has 1 labeled" in lines
    assert "20 test images" in lines


def test_for_photographs_pretrained_weights_are_named_with_flags_that_exist():
    [line] = proposal.remarks(FACTS)
    config = from_command_line([word for word in line.split() if word.startswith("--")])
    assert (config.weights, config.freeze_epochs) == ("imagenet", 5)


def test_many_classes_are_counted_in_few_lines(tmp_path, capsys):
    for c in range(25):
        for i in range(2):
            photograph(tmp_path / f"class_{c:02d}" / f"{i}.png", (c * 9, 40, 40), 2 * c + i)
    code, out, _ = checked(f"--data_dir={tmp_path}", "--test_fraction=0.5", "--sheet=", capsys=capsys)
    assert code == 0
    assert "... 5 more ..." in out
    assert "0 unlabeled" in out
    assert "0 unlabeled images are too few to learn from" in out
