"""What runs silently prints nothing, and afterwards printing works as before."""

import ctypes
import logging
import os
import sys
import warnings

import pytest

from autocompress.candidate.silence import silent


def say(what: str) -> None:
    print(what)
    print(what, file=sys.stderr)
    os.write(1, f"{what} past Python\n".encode())
    ctypes.CDLL(None).puts(f"{what} in C".encode())
    logging.getLogger("a_noisy_one").error(what)
    warnings.warn(what, stacklevel=1)


def test_only_what_is_said_outside_is_heard(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    say("before")
    with silent("a_noisy_one"):
        say("inside")
    say("after")
    ctypes.CDLL(None).fflush(None)
    out, err = capfd.readouterr()
    expected = [f"{when}{how}" for when in ("before", "after") for how in ("", " past Python", " in C")]
    assert sorted(out.splitlines()) == sorted(expected)
    assert err.splitlines() == ["before", "after"]
    assert caplog.messages == [str(warning.message) for warning in recwarn] == ["before", "after"]


def test_an_error_comes_through_and_ends_the_silence(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="wrong"), silent():
        raise ValueError("wrong")
    os.write(1, b"after")
    assert capfd.readouterr().out == "after"


def test_a_closed_standard_output_is_no_obstacle(capfd: pytest.CaptureFixture[str]) -> None:
    kept = os.dup(1)
    os.close(1)
    try:
        with silent():
            print("inside")
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert capfd.readouterr().out == ""
