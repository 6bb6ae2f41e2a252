import os

import pytest
import tensorflow as tf

from r2d2_tf.system import startup


@pytest.mark.parametrize("has_driver", [False, True])
def test_a_tensorflow_with_gpu_code_says_nothing_where_there_is_no_gpu(has_driver, monkeypatch, tmp_path, capfd):
    asked = []

    def look():
        asked.append(True)
        os.write(2, b"E0000 failed call to cuInit\n")

    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: True)
    monkeypatch.setattr(tf.config, "list_physical_devices", look)
    monkeypatch.setattr(startup, "_GPU_DRIVERS", [str(tmp_path)] if has_driver else [])
    startup.import_tensorflow_quietly()
    assert bool(asked) != has_driver
    assert capfd.readouterr().err == ""
