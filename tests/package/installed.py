"""Wheels of the project, and environments that they are installed into."""

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT


def run(*command: str | Path, cwd: Path) -> str:
    """What a program prints that has nothing of this process' own paths; fails with what it said, if it fails."""
    left = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, cwd=cwd, env=left, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """A wheel of this checkout, made with what is installed here."""
    how = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", f"--wheel-dir={folder}")
    run(sys.executable, "-m", "pip", *how, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and a folder outside of the checkout to work in."""

    folder: Path
    work: Path

    def __call__(self, name: str, *arguments: str) -> str:
        """Runs a program of the environment and returns what it prints."""
        return run(self.folder / "bin" / name, *arguments, cwd=self.work)


def made(folder: Path, *, sees_packages_of_here: bool, with_pip: bool = False) -> Environment:
    """A new environment, with nothing or with what this process' environment has, installed packages of the project aside."""
    venv.create(folder / "venv", with_pip=with_pip, symlinks=True)
    if sees_packages_of_here:
        own = sysconfig.get_path("purelib", vars={"base": str(folder / "venv"), "platbase": str(folder / "venv")})
        here = [path for path in sys.path if path.endswith("site-packages")]
        Path(own, "here.pth").write_text("\n".join(here) + "\n")
    (folder / "work").mkdir()
    return Environment(folder / "venv", folder / "work")


def install(environment: Environment, wheel: Path) -> None:
    """Installs a wheel, and nothing that it depends on, by the pip of this process."""
    how = ("install", "--quiet", "--no-deps", "--no-index", "--ignore-installed")
    run(sys.executable, "-m", "pip", "--python", environment.folder / "bin" / "python", *how, wheel, cwd=environment.work)
