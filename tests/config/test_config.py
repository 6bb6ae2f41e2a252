import dataclasses
import hashlib

import pytest
from absl import flags
from conftest import ROOT

from r2d2_tf import train
from r2d2_tf.config.command_line import define_flags, from_command_line, from_flags
from r2d2_tf.config.config import CLASS_LOSS_NAMES, Config
from r2d2_tf.config.flag_help import help_text
from r2d2_tf.runs import run_directory

CONFIGS = sorted((ROOT / "configs").rglob("*.cfg"))


def test_defaults_are_the_papers_alpha_beta_k_and_lambda():
    config = Config()
    assert (config.alpha, config.beta, config.label_logit, config.pseudo_label_lr) == (0.1, 0.03, 10.0, 4000.0)


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_every_config_file_parses_and_names_its_run(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert from_command_line([f"--flagfile={path}"]).name == path.stem


def test_there_are_config_files():
    assert CONFIGS


def test_every_field_is_a_flag_with_help_and_back():
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    flag_values(["program"])
    assert from_flags(flag_values) == Config()
    for field in dataclasses.fields(Config):
        assert f"  --{field.name}=" in help_text("")
        assert field.metadata["help"]


GROUPS = {
    "Every day": "dataset",
    "Data": "split_file",
    "Network and weights": "weights",
    "Stage 1: supervised": "supervised_epochs",
    "Stage 2: the method, D2 and R2": "alpha",
    "Stage 3: fine-tuning": "finetune_epochs",
    "Augmentation": "translate",
    "The run: its name, its checkpoints, and when it stops": "name",
    "Hardware and processes": "strategy",
}
"""In the order of --help, each with its first flag."""


def test_every_flag_is_in_a_group_and_groups_are_told_once_in_the_order_in_which_a_newcomer_reads():
    lines = help_text("What it is.").splitlines()
    titles = [line for line in lines if line and not line.startswith(" ")][2:]
    assert titles == list(GROUPS)
    for title, first in GROUPS.items():
        assert lines[lines.index(title) + 1].startswith(f"  --{first}=")
    assert {field.metadata["group"] for field in dataclasses.fields(Config)} == set(GROUPS)
    daily = lines[lines.index("Every day") : lines.index("Data")]
    assert sum(line.startswith("  --") for line in daily) == 10
    assert "  --flagfile=FILE" in daily


@pytest.mark.parametrize("width", [60, 80, 200])
def test_help_is_as_wide_as_the_terminal(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    lengths = [len(line) for line in help_text("many words " * 50).splitlines()]
    assert width - 15 < max(lengths) <= width


def test_full_help_has_the_flags_of_absl_too(capsys):
    assert train.main(["--help"]) == 0
    short = capsys.readouterr().out
    assert train.main(["--helpfull"]) == 0
    assert capsys.readouterr().out.startswith(short.rstrip("\n"))


def test_the_written_flagfile_repeats_the_run(tmp_path):
    config = from_command_line(["--alpha=0.25", "--norepredict", "--seed=3", "--name=trial", "--data_dir=/some where/data"])
    path = tmp_path / "config.cfg"
    path.write_text(config.to_flagfile())
    assert from_command_line([f"--flagfile={path}"]) == config


def test_the_last_setting_wins_and_comments_are_read_over(tmp_path):
    path = tmp_path / "mine.cfg"
    path.write_text("# a comment\n--alpha=0.2\n\n--beta=0.01\n")
    config = from_command_line([f"--flagfile={path}", "--beta=0.02"])
    assert (config.name, config.alpha, config.beta) == ("mine", 0.2, 0.02)


def test_the_name_is_that_of_the_last_flagfile_or_the_dataset(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.cfg").write_text("")
    a, b = (tmp_path / f"{name}.cfg" for name in ("a", "b"))
    assert from_command_line([f"--flagfile={a}", "--flagfile", str(b)]).name == "b"
    assert from_command_line(["--flagfile", str(b), f"--flagfile={a}"]).name == "a"
    assert from_command_line([]).name == "mnist5k"


def test_the_digest_follows_what_changes_a_result_and_nothing_else():
    base = Config()
    assert base.digest != dataclasses.replace(base, alpha=0.2).digest
    for change in (
        {"strategy": "none"}, {"num_logical_cpus": 2}, {"run_dir": "x"}, {"new_run": True}, {"name": "x"}, {"data_dir": "x"}
    ):  # fmt: skip
        assert base.digest == dataclasses.replace(base, **change).digest, change


def test_a_run_of_before_the_view_of_photographs_keeps_its_own_and_a_persons_flagfile_has_the_new_one(tmp_path):
    record = Config(dataset="folder", data_dir="photos", name="old").to_flagfile()
    old, person = tmp_path / "config.cfg", tmp_path / "my.cfg"
    old.write_text("".join(line for line in record.splitlines(keepends=True) if "image_view" not in line))
    person.write_text("--dataset=folder\n--data_dir=photos\n--name=old\n")
    before, new = (from_command_line([f"--flagfile={path}"]) for path in (old, person))
    assert (before.image_view, new.image_view) == ("stored", "shown")
    assert from_command_line([f"--flagfile={old}", "--image_view=shown"]).image_view == "shown"
    assert before.digest == new.digest, "the name of its folder stays"
    assert before.differences(new) == ["--image_view: shown -> stored"]
    arrays = Config(dataset="npz", data_dir="x.npz")
    assert not arrays.differences(dataclasses.replace(arrays, image_view="stored"))


def test_a_flag_at_its_default_leaves_the_digest_alone_so_that_a_new_one_does_not_rename_old_runs():
    nothing = hashlib.sha256(b"{}").hexdigest()[:8]
    assert Config().digest == Config(seed=0, alpha=0.1).digest == nothing


def test_the_papers_configs_have_the_authors_border_and_what_was_run_here_keeps_pictures_and_name(monkeypatch):
    monkeypatch.chdir(ROOT)

    def of(name):
        return from_command_line([f"--flagfile=configs/{name}.cfg"])

    papers = ("cifar10", "cifar100", "svhn", "ablation/table1_b", "ablation/table4_forward_kl")
    assert {of(name).translate_border for name in papers} == {"reflect"}
    digests = {"mnist5k": "f52223aa", "mnist5k_gentle": "e6002f15", "mnist": "673ed13f", "svhn_cpu": "8a10fa56"}
    assert {name: (of(name).digest, of(name).translate_border) for name in digests} == {
        name: (digest, "symmetric") for name, digest in digests.items()
    }


def test_a_run_of_before_goes_on_with_its_own_border_whatever_its_config_says_now(tmp_path):
    now = Config(run_dir=str(tmp_path), translate_border="reflect")
    record = dataclasses.replace(now, translate_border="symmetric").to_flagfile().splitlines(keepends=True)
    (tmp_path / "config.cfg").write_text("".join(line for line in record if "translate_border" not in line))
    assert run_directory.as_begun(now).translate_border == "symmetric"


def test_stage_1_alone_is_the_same_for_all_that_share_it():
    base = Config(num_labels=200, name="x", alpha=0.2, pseudo_label_lr=1.0, finetune_epochs=3)
    alone = base.stage_1_alone()
    assert (alone.rounds, alone.finetune_epochs, alone.num_labels, alone.name) == ("", 0, 200, "x")
    assert alone == dataclasses.replace(base, class_loss="forward_kl", stage_1_from="y").stage_1_alone()
    assert alone.digest != dataclasses.replace(base, translate=1).stage_1_alone().digest
    assert not alone.differences(base, through_stage=1)


def test_a_flagfile_keeps_rounds_that_are_empty(tmp_path):
    alone = Config().stage_1_alone()
    path = tmp_path / "alone.cfg"
    path.write_text(alone.to_flagfile())
    assert from_command_line([f"--flagfile={path}"]).digest == alone.digest


def test_the_run_directory_is_named_by_config_and_digest_unless_chosen():
    config = Config(name="mine")
    assert str(config.resolved_run_dir) == f"runs/mine-{config.digest}"
    assert str(Config(run_dir="there").resolved_run_dir) == "there"


def test_the_class_losses_that_config_allows_are_those_that_exist():
    from r2d2_tf.method.losses import CLASS_LOSSES

    assert tuple(CLASS_LOSSES) == CLASS_LOSS_NAMES


BAD = {
    "unknown flag": (["--alhpa=0.1"], "there is no flag --alhpa: did you mean --alpha?"),
    "no such flag at all": (["--zzzzzz=1"], "--help lists the flags"),
    "no dashes": (["alpha=0.1"], "'alpha=0.1' is not a flag: every argument and every line of a flagfile begins with --"),
    "missing flagfile": (["--flagfile=nowhere.cfg"], "nowhere.cfg"),
    "flagfile is a folder": (["--flagfile=/"], "cannot read the flags"),
    "not a number": (["--alpha=much"], "--alpha=much"),
    "not a whole number": (["--seed=1.5"], "--seed=1.5"),
    "missing value": (["--alpha"], "alpha"),
    "negated flag with a value": (["--norepredict=1"], "norepredict"),
    "not finite": (["--alpha=nan"], "alpha (nan) must be a finite number"),
    "infinite": (["--pseudo_label_lr=inf"], "pseudo_label_lr (inf) must be a finite number"),
    "beta too large": (["--beta=0.2"], "beta (0.2) must be below alpha (0.1), theorem 1: lower --beta or raise --alpha"),
    "beta equal": (["--beta=0.1"], "theorem 1"),
    "negative": (["--beta=-1"], "beta (-1.0) must be at least 0.0"),
    "momentum": (["--momentum=1"], "momentum (1.0) must be below 1.0"),
    "seed too large": (["--seed=99999999999"], "seed"),
    "too many labels": (["--num_labels=4001"], "at most the number of training images (4000): change --num_labels"),
    "too few labels": (["--num_labels=9"], "at least one a class (10)"),
    "unknown dataset": (["--dataset=mnist5"], "did you mean --dataset=mnist5k"),
    "unknown backbone": (["--backbone=lenett"], "did you mean --backbone=lenet?"),
    "unknown loss": (["--class_loss=reverse-kl"], "did you mean --class_loss=reverse_kl?"),
    "unlike any loss": (["--class_loss=l2"], "did you mean --class_loss=squared_l2?"),
    "unknown flag excused": (["--undefok=alhpa", "--alhpa=1"], "--undefok=alhpa is not allowed"),
    "cosine that rises again": (["--finetune_epochs=60"], "raise --finetune_cosine_epochs, or set it to 0"),
    "cutout beyond the image": (["--cutout=30"], "cutout (30) must be at most the image's 28 pixels"),
    "name that is a path": (["--name=../x"], "must hold neither / nor #"),
    "label logit that is none": (["--label_logit=1e-50"], "label_logit (1e-50) must be at least 1.0"),
    "empty rounds": (["--rounds="], "rounds is empty, so stage 3 has no learned table: add --finetune_from=prediction"),
    "nothing to do": (["--rounds=", "--finetune_epochs=0", "--stage_1_from=x"], "stage_1_from leaves nothing to do"),
    "two networks": (["--stage_1_from=x", "--stage_2_from=y"], "stage_1_from (x) and stage_2_from (y) both give a network"),
    "no stage 2 to start in": (
        ["--rounds=", "--finetune_from=prediction", "--stage_2_from=x"], "stage_2_from (x) is for a run with a stage 2"
    ),
    "rounds that are none": (["--rounds=,"], "--rounds=300:0.12"),
    "malformed rounds": (["--rounds=8:0.05;8:0.01"], "is not a round"),
    "batch smaller than replicas": (
        ["--batch_size=4", "--strategy=mirrored", "--num_logical_cpus=8", "--supervised_batch_size=8"],
        "batch_size (4) is smaller than the number of replicas (8)",
    ),
    "batch that cannot be parted": (["--batch_size=66"], "multiple of 4, for example 64"),
    "malformed composition": (["--labeled_to_unlabeled=1/3"], "as in --labeled_to_unlabeled=1:3"),
    "no labeled images": (["--labeled_to_unlabeled=0:3"], "two whole numbers above 0"),
    "odd cutout": (["--cutout=3"], "cutout (3) must be even"),
    "translation beyond the image": (["--translate=28"], "28 pixels"),
    "control character": (["--name=a\nb"], "control characters"),
    "empty flagfile name": (["--flagfile="], "flagfile"),
}  # fmt: skip


@pytest.mark.parametrize("arguments", [case[0] for case in BAD.values()], ids=list(BAD))
def test_bad_input_is_one_line_that_says_how_to_mend_it(arguments):
    expected = next(message for args, message in BAD.values() if args == arguments)
    with pytest.raises(ValueError, match=r".") as caught:
        from_command_line(arguments)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_that_could_never_be_given_up_are_a_warning():
    [line] = Config(learn_labeled_rows=True, compatibility=0.1).warnings()
    assert "compatibility (0.1) is not below alpha (0.1)" in line
    assert Config(learn_labeled_rows=True).warnings() == Config(compatibility=0.1).warnings() == []


def test_beta_above_alpha_is_a_warning_with_other_losses():
    config = Config(class_loss="squared_l2", beta=0.2)
    assert "beta (0.2) is not below alpha (0.1)" in config.warnings()[0]
    assert Config().warnings() == []


def test_a_flagfiles_line_without_dashes_is_refused(tmp_path):
    path = tmp_path / "mine.cfg"
    path.write_text("--alpha=0.2\nbeta=0.01\n")
    with pytest.raises(ValueError, match=r"'beta=0.01' is not a flag"):
        from_command_line([f"--flagfile={path}"])


def test_a_flagfile_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "mine.cfg"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot read the flags"):
        from_command_line([f"--flagfile={path}"])
