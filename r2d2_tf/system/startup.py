"""TensorFlow without its chatter."""

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

from r2d2_tf.system.messages import one_line, warn

_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/dxg")
"""Of NVIDIA on Linux, and on Linux within Windows: where one of them is, whatever is wrong with a GPU should be seen."""


def import_tensorflow_quietly(*, others_may_end: bool = False) -> None:
    """Imports TensorFlow and Keras; what they print while being imported is shown only if that fails.

    TF_CPP_MIN_LOG_LEVEL, which is set to 2 if nobody chose, reaches what comes later, but not these lines: they are
    written before the logger is ready. Where other processes train too and one of them ends, TensorFlow writes
    pages of what the program itself says in a line: then it is 3.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3" if others_may_end else "2")
    with output_held_back():
        import absl.logging
        import keras  # noqa: F401
        import tensorflow as tf

        if tf.test.is_built_with_cuda() and not any(os.path.exists(path) for path in _GPU_DRIVERS):
            # It is looked for once, and told in a line of C++ that it is not there: now, not in the midst of a table.
            tf.config.list_physical_devices()
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] >= "2":
        # The same for what they log from Python: of functions that are traced again, of formats that are old.
        tf.get_logger().setLevel("ERROR")
        absl.logging.set_verbosity(absl.logging.ERROR)


@contextlib.contextmanager
def warnings_held_back() -> Iterator[None]:
    """Python's warnings, which libraries give, as lines of our own after the block, each once: none stands in a table."""
    held: dict[str, None] = {}

    def hold(message: Warning | str, category: type[Warning], *more: object, **others: object) -> None:
        held.setdefault(f"{category.__name__}: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = hold
        try:
            yield
        finally:
            for text in held:
                warn(one_line(text))


@contextlib.contextmanager
def output_held_back() -> Iterator[None]:
    """Shows what the block prints to standard error, C++ libraries too, only if it fails."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as chatter:
        terminal = os.dup(2)
        os.dup2(chatter.fileno(), 2)
        try:
            yield
        except Exception:
            chatter.seek(0)
            os.write(terminal, chatter.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
