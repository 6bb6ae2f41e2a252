"""Generated bad input for everything that is read before TensorFlow is imported.

A program, as its tests have TensorFlow in their own process: `python bad_inputs.py check COUNT` asserts that each of COUNT
inputs is either refused with a ValueError of one clear line or read as something that can be written and read again,
and that nothing was imported, printed or written meanwhile. `python bad_inputs.py collect COUNT` writes COUNT refused ones
to cases.json, for the real command. Both work in the current folder, which should be empty, and print what they did as JSON.
"""

import base64
import contextlib
import dataclasses
import io
import json
import os
import sys
from pathlib import Path

import hypothesis
import hypothesis.configuration
import numpy as np
from hypothesis import strategies as st

from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.splits import parse_split, read_split

ROOT = Path(__file__).parent.parent
REAL = [path.read_bytes() for path in sorted((ROOT / "configs").rglob("*.cfg"))]
NAMES = [field.name for field in dataclasses.fields(Config)]
IDS = DATASETS["mnist5k"].read_ids(None)
LONGEST = 600
"""Characters that a message may have."""
SHARES = {"flagfiles": 0.5, "command_lines": 0.25, "split_files": 0.15, "config_values": 0.1}


@dataclasses.dataclass(frozen=True)
class Case:
    """A command line and the files that it names."""

    arguments: tuple[str, ...]
    files: dict[str, bytes]


# What is drawn.

ODD = [
    *("", " ", ".", "..", "../x", "/", "~", "~nobody-of-this-name/x", "a" * 300, "b" * 5000, "true", "False", "None"),
    *("\0", "\x1b[31m", "\n", "\r\n", "\u2028", "\ufeff", "\u202e", "a\tb", "\U0001f642", '"q"', "'", "=", "--", "#", ":", ","),
    *("nan", "-nan", "inf", "-inf", "-0.0", "0", "-1", "1e400", "1e-400", "1e308", "0x10", "1_000", "\u0663", "1.5"),
    *(
        "9" * 30,
        "9" * 5000,
        "2147483648",
        "1000001",
        "1000000:0.1,1:0.1",
        "9" * 400 + ":1",
        "1:" + "9" * 400,
        "9" * 4300 + ":1",
    ),
    *("1:", ":1", "1:3", "0:1", "1:1:1", "1:-3", "300:nan", "1:inf", "2:0.1,", "300:0.12", "0.01", "64", "100"),
    *("mnist", "imagenette", "cifar10", "lenet", "reverse_kl", "prediction"),
]
FILES = [
    "self.cfg",
    "one.cfg",
    "wide0.cfg",
    "deep0.cfg",
    "folder",
    "binary",
    "long",
    "fifo",
    "nowhere.cfg",
    "/dev/zero",
    "",
    ".",
]
text = st.one_of(st.sampled_from(ODD), st.text(max_size=30), st.floats().map(str), st.integers().map(str))
names = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(NAMES).map(lambda name: f"no{name}"),
    st.sampled_from(NAMES).flatmap(lambda name: st.sampled_from([name[1:], name.upper(), f"{name}s", f"{name} "])),
    st.sampled_from(["flagfile", "undefok", "help", "noflagfile", ""]),
    st.text(max_size=12),
)
settings_ = st.one_of(
    st.builds("--{}={}".format, names, text),
    st.builds("--{}={}".format, st.sampled_from(NAMES), text),
    st.builds("-{}={}".format, names, text),
    st.builds("--{}".format, names),
    st.builds("--{} {}".format, names, text),
    st.builds("--flagfile={}".format, st.sampled_from(FILES)),
    text,
)


@st.composite
def mutated(draw, sources, lines):
    """Bytes of one of the `sources` after a few accidents; `lines` draws a new line."""
    content = draw(st.sampled_from(sources))
    for _ in range(draw(st.integers(1, 3))):
        parts = content.split(b"\n")
        at, other = (draw(st.integers(0, len(parts) - 1)) for _ in range(2))
        place = draw(st.integers(0, len(content)))
        accident = draw(st.integers(0, 11))
        if accident == 0:
            del parts[at]
        elif accident == 1:
            parts.insert(other, parts[at])
        elif accident == 2:
            parts[at], parts[other] = parts[other], parts[at]
        elif accident == 3:
            parts[at] = parts[at].replace(b"=", draw(st.sampled_from([b"", b" ", b"==", b":", b"=\0"])))
        elif accident == 4:
            parts[at] = parts[at].partition(b"=")[0] + b"=" + encoded(draw(text))
        elif accident in (5, 6):
            parts.insert(at, encoded(draw(lines)))
        content = b"\n".join(parts)
        if accident == 7:
            content = content[:place]
        elif accident == 8:
            content = content[:place] + draw(st.binary(min_size=1, max_size=8)) + content[place:]
        elif accident == 9:
            content = draw(st.sampled_from([b"\xef\xbb\xbf", b"\xff\xfe", b"\0"])) + content
        elif accident == 10:
            content = content.replace(b"\n", b"\r\n")
        elif accident == 11:
            content = content[:place] + encoded(draw(text)) + content[place:]
    return content


def encoded(value):
    return value.encode("utf-8", "surrogatepass")


flagfiles = st.builds(
    lambda content, more: Case(("--flagfile=mine.cfg", *more), {"mine.cfg": content}),
    mutated(REAL, settings_),
    st.lists(settings_, max_size=1),
)
real_settings = st.sampled_from(sorted({line for text in REAL for line in text.decode().splitlines() if line[:2] == "--"}))
command_lines = st.lists(st.one_of(real_settings, real_settings, settings_), min_size=1, max_size=4).map(
    lambda arguments: Case(tuple(arguments), {})
)
split_files = mutated(
    [
        "".join(f"{identifier}\n" for identifier in IDS[::40]).encode(),
        "".join(f"{identifier} {row // 400}\n" for row, identifier in enumerate(IDS) if row % 400 < 3).encode(),
        "".join(f"{row}_cat.png {'cat' if row % 2 else 'NO_LABEL'}\n" for row in range(9)).encode(),
        b"",
    ],
    st.one_of(
        st.sampled_from([IDS[0], f"{IDS[0]} 0", f"{IDS[0]} 1 2", "9" * 5000 + "_cat.png cat", "\u0663_cat.png cat"]), text
    ),
).map(lambda content: Case(("--split_file=split.txt",), {"split.txt": content}))
odd_values = st.sampled_from([10**400, -(10**400), 2**31, None, b"x", (1,), 1j])
values = st.one_of(text, st.floats(), st.floats(0, 1), st.integers(), st.integers(0, 500), st.booleans(), odd_values)
config_values = st.one_of(
    st.dictionaries(st.sampled_from(NAMES), values, max_size=3),
    st.sampled_from(dataclasses.fields(Config)).flatmap(
        lambda field: values.filter(lambda value: type(value) is type(field.default)).map(lambda value: {field.name: value})
    ),
)


# What must hold.


def check_case(case, read):
    """Asserts it of a case, of which `read` makes something; returns the message of the refusal, or None."""
    for name, content in case.files.items():
        Path(name).write_bytes(content)
    return check(lambda: read(case))


def check(read):
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), writes_watched() as writes:
            read()
        message = None
    except ValueError as error:
        message = str(error)
        assert message.isprintable(), repr(message)
        assert message.strip(), "an empty message"
        assert len(message) <= LONGEST, len(message)
        assert "Traceback" not in message
    assert not writes, writes
    assert printed.getvalue() == ""
    return message


def read_config(case):
    config = from_command_line(case.arguments)
    with writing():
        Path("again.cfg").write_text(config.to_flagfile())
    unwritten = [f"--{name}={getattr(config, name)}" for name in ("run_dir", "new_run", "dry_run")]
    again = from_command_line(["--flagfile=again.cfg", *unwritten])
    assert again == config
    assert again.digest == config.digest
    assert config.run_dir or config.resolved_run_dir.parent == Path("runs"), "a name that is a path"
    assert all(path.name not in ("", ".", "..") for path in [config.resolved_run_dir] if not config.run_dir)


def read_both(case):
    lines = parse_split(Path("split.txt"), IDS)
    rows = read_split(Path("split.txt"), IDS, np.repeat(np.arange(10), 400), [str(digit) for digit in range(10)])
    assert rows.tolist() == sorted(line.row for line in lines)


def read_values(values):
    config = Config(**values)
    assert Config(**dataclasses.asdict(config)).digest == config.digest
    assert isinstance(config.to_flagfile(), str)


WRITES: list | None = None


def watch(event, arguments):
    if WRITES is None:
        return
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
        WRITES.append(arguments[:2])
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod"):
        WRITES.append((event, *arguments))


@contextlib.contextmanager
def writes_watched():
    global WRITES
    WRITES = seen = []
    try:
        yield seen
    finally:
        WRITES = None


@contextlib.contextmanager
def writing():
    """The test's own writing, in between."""
    global WRITES
    seen, WRITES = WRITES, None
    try:
        yield
    finally:
        WRITES = seen


def make_files():
    """The files that generated command lines name."""
    Path("folder").mkdir()
    Path("configs").symlink_to(ROOT / "configs")
    Path("binary").write_bytes(bytes(range(256)) * 8)
    Path("long").write_bytes(b"--alpha=0.1" + b"1" * 3_000_000)
    os.mkfifo("fifo")
    Path("self.cfg").write_text("--alpha=0.2\n--flagfile=self.cfg\n")
    Path("one.cfg").write_text("--flagfile=two.cfg\n")
    Path("two.cfg").write_text("--flagfile=one.cfg\n")
    for number in range(40):
        Path(f"wide{number}.cfg").write_text(f"--flagfile=wide{number + 1}.cfg\n" * 2)
    Path("wide40.cfg").write_text("--alpha=0.2\n")
    for number in range(1200):
        Path(f"deep{number}.cfg").write_text(f"--flagfile=deep{number + 1}.cfg\n")
    Path("deep1200.cfg").write_text("--alpha=0.2\n")


KINDS = {
    "flagfiles": (flagfiles, lambda case: check_case(case, read_config)),
    "command_lines": (command_lines, lambda case: check_case(case, read_config)),
    "split_files": (split_files, lambda case: check_case(case, read_both)),
    "config_values": (config_values, lambda values: check(lambda: read_values(values))),
}


def run(kind, count, found):
    """Checks `count` inputs of a kind, and calls `found` with each and the message of its refusal, or None."""
    inputs, check_one = KINDS[kind]

    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(inputs)
    def body(drawn):
        found(drawn, check_one(drawn))

    body()


def main(mode, count):
    hypothesis.configuration.set_hypothesis_home_dir(Path("hypothesis").absolute())
    sys.addaudithook(watch)
    make_files()
    if mode == "collect":
        print(json.dumps(collect(count)))
        return
    counts = {}
    for kind, share in SHARES.items():
        messages = []
        run(kind, round(count * share), lambda drawn, message, into=messages: into.append(message))
        counts[kind] = [len(messages), sum(message is not None for message in messages)]
    assert not {"tensorflow", "keras", "tensorflow_datasets"} & set(sys.modules)
    print(json.dumps(counts))


def collect(count):
    """Writes refused cases that can be given to a program, no two with messages that begin alike, to cases.json."""
    cases = {}

    def add(case, message):
        fits = all("\0" not in argument and "--help" not in argument and encodes(argument) for argument in case.arguments)
        if message is not None and fits:
            cases.setdefault(message[:40], case)

    for kind, share in (("flagfiles", 0.5), ("command_lines", 0.4), ("split_files", 0.1)):
        before, wanted = len(cases), max(1, round(count * share))
        run(kind, 20 * wanted, add)
        for beginning in list(cases)[before + wanted :]:
            del cases[beginning]
    listed = [
        {"arguments": case.arguments, "files": {n: base64.b64encode(c).decode() for n, c in case.files.items()}}
        for case in cases.values()
    ]
    Path("cases.json").write_text(json.dumps(listed))
    return len(listed)


def encodes(argument):
    try:
        os.fsencode(argument)
    except UnicodeEncodeError:
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
