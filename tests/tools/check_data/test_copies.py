"""Copies and leaks, by what is decoded; near copies, by how they look."""

import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from own_photographs import COLORS, colored_folder, photograph
from PIL import Image
from test_photographs import smooth

from r2d2_tf.data.datasets import DATASETS
from tools.check_data import __main__ as check_data
from tools.check_data import near_copies
from tools.check_data.near_copies import appearance, near_pairs


def with_comment(jpeg: bytes, comment=b"stripped by a web site"):
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def checked(folder, capsys):
    code = check_data.main([f"--data_dir={folder}", "--sheet="])
    return code, capsys.readouterr().out


@pytest.fixture
def photos(tmp_path):
    return colored_folder(tmp_path / "photos", kinds=("png",), test=2)


def test_test_images_among_the_training_images_are_a_leak_whatever_their_files_are(photos, capsys):
    for number, path in enumerate(sorted((photos / "test").rglob("*.png"))):
        with Image.open(path) as image:
            image.save(photos / "train" / path.relative_to(photos).parts[1] / f"copy_{number}.png", compress_level=1)
    photograph(photos / "test" / "red" / "j.jpg", COLORS["red"], 77)
    (photos / "train" / "blue" / "j2.jpg").write_bytes(with_comment((photos / "test" / "red" / "j.jpg").read_bytes()))
    code, out = checked(photos, capsys)
    assert code == 1
    assert "so that errors come out too low (7 of them)" in out
    assert "CONTRADICTION: equal images with different labels (1 of them)" in out
    assert "'train/blue/j2.jpg' (blue) = 'test/red/j.jpg' (test, red)" in out
    assert "7 of these 7 groups are of files that differ, and hold the same pixels" in out
    assert "Near copies" not in out


def stripped_of_metadata(source, folder):
    with Image.open(source) as image:
        image.save(folder / "x.png", pnginfo=None, dpi=(300, 300))


def as_bmp(source, folder):
    with Image.open(source) as image:
        image.convert("RGB").save(folder / "x.bmp")


def as_lossless_webp(source, folder):
    with Image.open(source) as image:
        image.convert("RGB").save(folder / "x.webp", lossless=True, exact=True)


def interlaced_with_alpha(source, folder):
    with Image.open(source) as image:
        opaque = image.convert("RGBA")
        opaque.putalpha(255)
        opaque.save(folder / "x.png", optimize=True)


def with_bytes_after_its_end(source, folder):
    (folder / "x.png").write_bytes(source.read_bytes() + b"\0" * 512)


@pytest.mark.parametrize(
    "save", [stripped_of_metadata, as_bmp, as_lossless_webp, interlaced_with_alpha, with_bytes_after_its_end]
)
def test_a_copy_is_found_however_its_file_came_about(save, photos, capsys):
    source = photos / "test" / "red" / "more" / "red_test_0.png"
    save(source, photos / "train" / "red")
    code, out = checked(photos, capsys)
    assert code == 1
    assert "LEAK" in out
    assert "= 'test/red/more/red_test_0.png' (test, red)" in out


def pattern(height, width, number, contrast=1.0):
    """A smooth picture that differs from that of any other number."""
    picture = smooth(height, width, number).astype(float)
    return np.clip(128 + contrast * (picture - 128), 0, 255).astype(np.uint8)


def saved_again(path, source, *, quality=60, scale=1.0, brighter=0):
    with Image.open(source) as image:
        size = (round(image.width * scale), round(image.height * scale))
        pixels = np.asarray(image.convert("RGB").resize(size)).astype(int) + brighter
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=quality)


@pytest.mark.parametrize("change", [{}, {"scale": 0.5}, {"scale": 1.7}, {"quality": 40}, {"brighter": 2}], ids=str)
def test_a_near_copy_is_a_warning_that_names_the_pair(change, photos, capsys):
    source = photos / "test" / "red" / "sky.png"
    Image.fromarray(pattern(120, 160, 7)).save(source)
    saved_again(photos / "train" / "red" / "sky again.jpg", source, **change)
    code, out = checked(photos, capsys)
    assert code == 0, "it may be meant"
    assert "Near copies: 1 pairs look alike, 1 of them a test and a training image, 0 of different labels" in out
    assert "'train/red/sky again.jpg' (red) ~ 'test/red/sky.png' (test, red)" in out


def near(*images):
    return near_pairs([appearance(image) for image in images])


def test_images_that_differ_are_no_near_copies():
    assert near(*(pattern(64, 64, number) for number in range(60))) == []


def test_digits_are_too_small_to_be_compared():
    assert near(*np.asarray(DATASETS["mnist5k"].load(None).train_images)[:50]) == []


def test_digits_that_were_enlarged_are_no_copies_of_each_other():
    digits = np.asarray(DATASETS["mnist5k"].load(None).train_images)[:600, ..., 0]
    assert near(*(np.asarray(Image.fromarray(digit).resize((96, 96)))[..., None] for digit in digits)) == []


def test_plain_images_are_not_compared():
    rng = np.random.default_rng(0)
    plain = [np.full((64, 64, 3), level, np.uint8) for level in (0, 90, 255)]
    noisy = [rng.integers(100, 108, (64, 64, 3)).astype(np.uint8) for _ in range(20)]
    assert near(*plain, *noisy) == []


def test_the_same_forms_in_other_colors_are_no_copies():
    forms = pattern(64, 64, 3)
    assert near(forms, forms[..., ::-1], 255 - forms) == []


def test_of_light_and_dark_halves_the_rest_decides():
    def halves(number):
        picture = pattern(64, 64, number, contrast=0.6).astype(int)
        picture[:, 32:] -= 90
        return np.clip(picture, 0, 255).astype(np.uint8)

    assert near(*(halves(number) for number in range(20))) == []


def test_the_nearest_pairs_come_first_and_places_are_those_of_all_images():
    image = pattern(64, 64, 1)
    noise = np.random.default_rng(0).normal(size=image.shape)
    slightly, more = ((np.clip(image + scale * noise, 0, 255)).astype(np.uint8) for scale in (3, 12))
    assert near(np.zeros((64, 64, 3), np.uint8), image, more, slightly)[0] == (1, 3)


def test_twenty_thousand_images_are_held_against_each_other_in_seconds():
    rng = np.random.default_rng(0)
    thumbnails = rng.integers(0, 256, (20_000, 768), np.uint8)
    looks = [near_copies.Appearance(int(rng.integers(2**63)), row.tobytes()) for row in thumbnails]
    looks[19_000] = looks[5]
    began = time.process_time()
    assert near_pairs(looks) == [(5, 19_000)]
    assert time.process_time() - began < 60


def test_as_many_pairs_as_a_burst_has_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(near_copies, "MOST_PAIRS", 100)
    assert len(near_pairs([appearance(pattern(64, 64, 1))] * 2000)) == 100


def test_images_of_a_single_color_are_told(photos, capsys):
    for number, folder in enumerate(("train/red", "unlabeled")):
        Image.new("RGB", (60, 50), (9, 9, 20 * number)).save(photos / folder / "lens cap.png")
    code, out = checked(photos, capsys)
    assert "SINGLE COLOR: 2 of 32 images are of one color once decoded, and show nothing: 'train/red/lens cap.png'" in out
    assert code == 0


def test_of_healthy_images_nothing_is_told(photos, capsys):
    assert "No image is unreadable, and none is there twice." in checked(photos, capsys)[1]


@pytest.mark.slow
def test_a_head_that_reads_a_line_ends_the_program_in_silence(photos):
    shutil.rmtree(photos / "unlabeled")
    command = f"'{sys.executable}' -m tools.check_data --data_dir='{photos}' --sheet= | head -n 1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
