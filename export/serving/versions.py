"""The versions of a model: which folder is loaded, which is newest, and the switch from one to the other."""

import asyncio
import gc
import logging
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from export.inference import SAVED_MODEL_FILE
from export.serving.errors import Code, ServingError
from export.serving.folders import Fingerprint, fingerprint, version_folders
from export.serving.lookup import named_signature
from export.serving.signatures import Signature, servable_signatures
from r2d2_tf.system.messages import one_line

SERVE_TAG = "serve"
_LOG = logging.getLogger("export.serve")


class LoadedVersion:
    """A SavedModel in memory.

    Attributes:
        number: its version.
        signatures: what it can be asked for, by name.
        definitions: its SignatureDefs, as the file has them.
    """

    def __init__(self, number: int, folder: Path) -> None:
        saved_model = saved_model_pb2.SavedModel()
        saved_model.ParseFromString((folder / SAVED_MODEL_FILE).read_bytes())
        graphs = [graph for graph in saved_model.meta_graphs if SERVE_TAG in graph.meta_info_def.tags]
        if not graphs:
            raise ValueError(f"it has no graph tagged {SERVE_TAG!r}")
        self.number = number
        self.definitions: dict[str, Any] = dict(graphs[0].signature_def)
        # The loaded object is kept: its signatures hold no reference to their variables.
        self._model = tf.saved_model.load(str(folder), tags=SERVE_TAG)
        self.signatures = servable_signatures(self._model.signatures, self.definitions)
        if not self.signatures:
            raise ValueError("it has no signature of dense tensors")
        for signature in self.signatures.values():
            signature.warm_up()

    def signature(self, name: str) -> Signature:
        """The signature of that name, or a ServingError."""
        return named_signature(self.signatures, name)


class State(NamedTuple):
    """What became of a version: a name of TensorFlow Serving's ModelVersionStatus.State, and the error if it failed."""

    name: str
    error: str = ""


class ModelVersions:
    """The versions of one model; requests go to `current`.

    Attributes:
        name: of the model, in URLs and requests.
        folder: holds the folders of the versions.
        states: by version number, of all that were ever tried.
        switches: how many times another version took over.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.current: LoadedVersion | None = None
        self.states: dict[int, State] = {}
        self.switches = 0
        self._failed: dict[int, Fingerprint] = {}
        self._seen: dict[int, Fingerprint] = {}
        self._loaded_files: Fingerprint | None = None
        self._missing = False
        self._lock = threading.Lock()
        self._has_garbage = False

    def get(self, name: str, number: int | None) -> LoadedVersion:
        """The version that a request asks for.

        Raises:
            ServingError: if it is not loaded.
        """
        current = self.current
        if name != self.name:
            raise ServingError(Code.NOT_FOUND, f"there is no model {name!r}: this server has {self.name!r}")
        if current is None:
            raise ServingError(Code.UNAVAILABLE, f"no version of model {self.name!r} is loaded")
        if number is not None and number != current.number:
            raise ServingError(
                Code.NOT_FOUND, f"version {number} of model {self.name!r} is not loaded: version {current.number} is"
            )
        return current

    def load_newest(self, *, settled: bool = False) -> None:
        """Loads the highest version that loads, which may be the one that is loaded.

        A folder that failed is tried again only once its files have changed.

        Args:
            settled: passes over a folder whose files have changed since the last look, as it is being copied.
        """
        with self._lock:
            before, self._seen = self._seen, {}
            for number, folder in version_folders(self.folder):
                files = self._seen[number] = fingerprint(folder)
                is_settled = before.get(number) == files
                if self.current is not None and number == self.current.number:
                    if is_settled and files != self._loaded_files:
                        self._tell_replaced(number, files)
                    return
                untried = self._failed.get(number) != files and (is_settled or not settled)
                if untried and self._load(number, folder, files):
                    return

    async def watch(self, seconds: float) -> None:
        """Looks every `seconds` for another version than the current one, and loads it while the current one goes on."""
        loop, thread = asyncio.get_running_loop(), ThreadPoolExecutor(1, thread_name_prefix="loader")
        try:
            while True:
                await asyncio.sleep(seconds)
                await loop.run_in_executor(thread, self._look)
        finally:
            thread.shutdown(wait=False)

    def _look(self) -> None:
        try:
            self.load_newest(settled=True)
            self._missing = False
        except OSError as error:
            if not self._missing:
                _LOG.warning("cannot look for versions: %s", one_line(error))
            self._missing = True
        if self._has_garbage:
            self._has_garbage = False
            # A model is full of cycles; left to chance, several old ones would stay in memory.
            gc.collect()

    def _tell_replaced(self, number: int, files: Fingerprint) -> None:
        self._loaded_files = files
        _LOG.warning(
            "the files of version %d have changed; the one that was loaded goes on: export under a higher --model_version "
            "to switch, or restart the server",
            number,
        )

    def _load(self, number: int, folder: Path, files: Fingerprint) -> bool:
        before = self.states.get(number)
        self.states[number] = State("LOADING")
        try:
            loaded = LoadedVersion(number, folder)
        except Exception as error:
            # Whatever a damaged file makes TensorFlow raise: the version does not load, and the server goes on.
            self._failed[number] = files
            self.states[number] = State("END", one_line(error) or type(error).__name__)
            if self.states[number] != before:
                goes_on = f"; version {self.current.number} goes on" if self.current else ""
                _LOG.warning("version %d does not load%s: %s", number, goes_on, self.states[number].error)
            return False
        self._failed.pop(number, None)
        self._loaded_files = files
        self._switch_to(loaded)
        return True

    def _switch_to(self, loaded: LoadedVersion) -> None:
        old, self.current = self.current, loaded
        self.states[loaded.number] = State("AVAILABLE")
        if old is None:
            return
        self.switches += 1
        _LOG.info("version %d has taken over from version %d", loaded.number, old.number)
        self.states[old.number] = State("UNLOADING")
        # The requests that run on it hold it until they are answered.
        weakref.finalize(old, self._unloaded, old.number)

    def _unloaded(self, number: int) -> None:
        self._has_garbage = True
        if self.states.get(number) == State("UNLOADING"):
            self.states[number] = State("END")
