import re
import tomllib

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = PROJECT["optional-dependencies"]
OF_EXTRAS = [line for extra in ("serve", "onnx", "tune") for line in OPTIONAL[extra]]
FOR_USERS = [Requirement(line) for line in (*PROJECT["dependencies"], *OF_EXTRAS)]
FOR_TESTS = [Requirement(line) for line in OPTIONAL["dev"] if not line.startswith("r2d2_tf")]


def asked_for(file):
    """Names in a requirements.in, without the few that stand below its last heading as others ask for them."""
    text = (ROOT / file).read_text().partition("# Not asked for")[0]
    return {canonicalize_name(name) for name in re.findall(r"^([\w-]+)", text, re.MULTILINE)}


def pins(file):
    found = re.findall(r"^([\w.-]+)==([\w.+]+)", (ROOT / file).read_text(), re.MULTILINE)
    return {(canonicalize_name(name), version) for name, version in found}


@pytest.mark.parametrize(
    ("file", "ranges"), [("requirements", FOR_USERS), ("requirements-dev", FOR_TESTS)], ids=["users", "developers"]
)
def test_the_metadata_ask_for_what_the_checkout_asks_for_and_allow_its_pins(file, ranges):
    named = {canonicalize_name(requirement.name) for requirement in ranges}
    # One of the two for each machine.
    assert named == asked_for(f"{file}.in") - {"tensorflow-cpu"}
    pinned = pins(f"{file}.txt")
    for requirement in ranges:
        own = [version for name, version in pinned if name == canonicalize_name(requirement.name)]
        assert own
        assert all(requirement.specifier.contains(version) for version in own), requirement


@pytest.mark.parametrize("file", ["requirements", "requirements-dev", "requirements-tools"])
def test_every_pin_has_hashes_so_that_pip_installs_nothing_else(file):
    lines = [line for line in (ROOT / f"{file}.txt").read_text().splitlines() if line and not line.lstrip().startswith("#")]
    pinned = [number for number, line in enumerate(lines) if re.match(r"[\w.-]+==", line)]
    assert len(pinned) > 20
    assert all(lines[number].endswith(" \\") and lines[number + 1].startswith("    --hash=sha256:") for number in pinned)
    assert {line for line in lines if not re.match(r"[\w.-]+==|    --hash=sha256:[0-9a-f]{64}( \\)?$", line)} <= {
        "-r requirements.txt"
    }


def test_a_gpu_asks_for_the_same_tensorflow():
    (gpu,) = map(Requirement, OPTIONAL["gpu"])
    (plain,) = (requirement for requirement in FOR_USERS if requirement.name == "tensorflow")
    assert gpu.specifier == plain.specifier
    assert gpu.extras == {"and-cuda"}
