"""What somebody is told of his images before training, and the config that is proposed."""

import contextlib
import io
import shutil

import numpy as np
import pytest
from own_photographs import COLORS, colored_folder, photograph, write_csv
from PIL import Image
from test_folder import npz

from r2d2_tf import train
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.runs.dataset import spec_of
from tools.check_data import __main__ as check_data
from tools.reproduce import fake_data


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
    assert "-m tools.check_data --data_dir=" in out.splitlines()[-1], "it is to be looked at again"


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
    code, out, error = checked(f"--data_dir={folder}", "--sheet=", f"--config_out={config_path}", "--minutes=1", capsys=capsys)
    assert (code, error) == (0, "")
    assert "(0.2 of the labeled ones, --test_fraction)" in out
    assert "No image is unreadable, and none is there twice." in out
    assert f"-m r2d2_tf.train --flagfile={config_path}" in out
    command = out.splitlines()[-1]
    assert command.startswith("  ")
    assert "-m r2d2_tf.train --dataset=folder --data_dir=" in command
    assert command.endswith(" --minutes=1"), "as it was asked for"
    config = from_command_line([f"--flagfile={config_path}"])
    assert (config.dataset, config.data_dir, config.test_fraction) == ("folder", str(folder), 0.2)
    assert config.name == "my"


@pytest.mark.slow
def test_a_proposal_trains_as_it_is_but_for_its_lengths(tmp_path, capsys):
    folder, config_path = colored_folder(tmp_path / "two words", test=0), tmp_path / "my.cfg"
    checked(f"--data_dir={folder}", "--sheet=", f"--config_out={config_path}", "--minutes=1", capsys=capsys)
    short = [
        "--supervised_epochs=1",
        "--rounds=1:0.001",
        "--finetune_epochs=0",
        "--backbone=conv_small",
        "--weights=none",
        "--trainable=all",
        "--nostop_on_collapse",
    ]
    assert train.main([f"--flagfile={config_path}", *short, f"--run_dir={tmp_path / 'run'}"]) == 0


def test_an_npz_file_is_checked_too(tmp_path, capsys):
    code, out, _ = checked(f"--data_dir={npz(tmp_path / 'bugs.npz')}", f"--sheet={tmp_path / 's.png'}", capsys=capsys)
    assert code == 0
    assert "12 labeled + 28 unlabeled to train on, 5 to test on" in out
    assert "--backbone=efficientnet_lite0" in out
    assert "Another way: conv_small from random weights" in out
    assert "image_size" not in out
    assert (tmp_path / "s.png").is_file()


def test_classes_that_nobody_labeled_are_named(tmp_path, capsys):
    path = npz(tmp_path / "bugs.npz", class_names=np.array(["ant", "bee", "fly", "flea", "wasp"]))
    code, out, _ = checked(f"--data_dir={path}", "--sheet=", capsys=capsys)
    assert code == 1
    assert "r2d2_tf.train" not in out, "a run would refuse them"
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


def test_many_classes_are_counted_in_few_lines(tmp_path, capsys):
    for c in range(25):
        for i in range(2):
            photograph(tmp_path / f"class_{c:02d}" / f"{i}.png", (c * 9, 40, 40), 2 * c + i)
    code, out, _ = checked(f"--data_dir={tmp_path}", "--test_fraction=0.5", "--sheet=", capsys=capsys)
    assert code == 0
    assert "... 5 more ..." in out
    assert "0 unlabeled" in out
    assert "0 unlabeled images are too few to learn from" in out
