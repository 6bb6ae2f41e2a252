"""Flags that name a file or a folder: ~ is the home of whoever calls, which bash leaves as it is in --flag=~/x."""

from collections.abc import Sequence

from absl import flags

from r2d2_tf.system.files import with_home


class PathParser(flags.ArgumentParser):
    """Reads the name of a file or folder."""

    def parse(self, argument: str) -> str:
        """The name, its ~ written out."""
        return with_home(argument)


class PathListParser(flags.ListParser):
    """Reads names of files or folders, separated by commas."""

    def parse(self, argument: str | Sequence[str]) -> list[str]:
        """The names, each ~ written out."""
        return [with_home(name) for name in super().parse(argument)]


def define_path(name: str, default: str, about: str, *, flag_values: flags.FlagValues) -> None:
    """Defines a flag that names a file or a folder. Its value is a str."""
    flags.DEFINE(PathParser(), name, default, about, flag_values=flag_values, serializer=flags.ArgumentSerializer())


def define_data_dir(flag_values: flags.FlagValues) -> None:
    """Defines --data_dir of a program that looks at the images of a run."""
    define_path("data_dir", "", "folder or file of the data set, if not that of the run", flag_values=flag_values)


def define_paths(name: str, default: str, about: str, *, flag_values: flags.FlagValues) -> None:
    """Defines a flag that names several. Its value is a list of str."""
    flags.DEFINE(PathListParser(), name, default, about, flag_values=flag_values, serializer=flags.CsvListSerializer(","))
