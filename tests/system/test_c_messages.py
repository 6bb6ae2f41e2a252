"""Warnings of C libraries about images do not come between the lines of a program; what else they write does."""

import os
import sys

import pytest

from r2d2_tf.system.c_messages import held, without_warnings_about_images

STRAY = b"Corrupt JPEG data: 68 extraneous bytes before marker 0xd9\n"
OTHER = b"E0000 something else\n"


def test_warnings_about_images_are_dropped_and_the_rest_is_passed_on(capfd):
    with without_warnings_about_images():
        os.write(2, STRAY[:20])
        os.write(2, STRAY[20:] + OTHER)
        os.write(2, STRAY * 1000)
        print("of Python", file=sys.stderr, flush=True)
    os.write(2, b"after\n")
    out = capfd.readouterr().err
    assert "JPEG" not in out
    assert [line in out for line in (OTHER.decode(), "of Python", "after")] == [True] * 3


def test_what_is_held_is_counted_and_shown_but_for_warnings_about_images(capfd):
    with held() as said:
        assert (said.size, said.is_about_images) == (0, False)
        os.write(2, OTHER)
        assert not said.is_about_images
        os.write(2, STRAY)
        assert (said.size, said.is_about_images) == (len(STRAY + OTHER), True)
    assert capfd.readouterr().err == OTHER.decode()


@pytest.mark.parametrize("context", [held, without_warnings_about_images])
def test_an_error_leaves_standard_error_as_it_was(context, capfd):
    def fail():
        os.write(2, OTHER)
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"), context():
        fail()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == OTHER.decode() + "after\n"
