"""Output survives a pipe and a hostile text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.cli import output
from appliance.cli.clock import length, moment

HOSTILE = "a\x1b[2J\r\n\x07\x9b31m\u202eb\x7f\ud800"


@given(st.text())
def test_a_cell_is_printable_and_on_one_line(text: str) -> None:
    assert output.plain(text).isprintable()


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_text_that_is_printable_is_left_as_it_is(text: str) -> None:
    assert output.plain(text) == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda e: st.lists(e) | st.dictionaries(st.text(), e)
    )
)
def test_json_is_printable_and_says_the_same(value: object) -> None:
    for indent in (None, 2):
        text = output.json_of(value, indent)
        assert text.replace("\n", "").isprintable()
        assert json.loads(text) == value
    assert "\n" not in output.json_of(value)


def test_cells() -> None:
    assert output.plain(["a", 1]) == "a, 1"
    assert output.plain(None) == ""
    assert "\x1b" not in output.plain([HOSTILE])


def test_a_table_in_a_pipe_has_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_table(("A", "LONGER"), [("x" * 500, HOSTILE), ("1", 2)], "nothing")
    lines = capsys.readouterr().out.split("\n")
    assert [line.split()[0][0] for line in lines[:3]] == ["A", "x", "1"]
    assert lines[3:] == [""]
    assert len(lines[0].split("LONGER")[0]) == 502
    assert all(line.isprintable() for line in lines)


def test_a_table_without_rows_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_table(("A",), [], "nothing is there")
    assert capsys.readouterr().out == "nothing is there\n"


def test_an_error_is_one_sentence_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        output.fail(HOSTILE, output.NO)
    assert ended.value.code == output.NO
    said = capsys.readouterr().err
    assert said.startswith("coatcheck: a")
    assert said.replace("\n", "").isprintable()


def in_python(code: str, stdout: int | IO[bytes]) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", f"from appliance.cli import output\n{code}"]
    return subprocess.Popen(argv, stdout=stdout, stderr=subprocess.PIPE)


def test_a_table_in_a_terminal_folds_and_moves_no_cursor() -> None:
    ours, theirs = os.openpty()
    process = in_python(f"output.show_table(('A', 'B'), [('y' * 300, {HOSTILE!r})], '')", stdout=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:  # EIO: the other end is closed
            break
        seen += data
    os.close(ours)
    assert process.wait(30) == 0
    text = seen.decode().replace("\x1b[1m", "").replace("\x1b[0m", "")  # the head is bold
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert text.count("y") == 300


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = in_python("while True: output.say('x' * 5000)", stdout=writing)
    os.close(writing)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 141


def test_a_full_disk_is_said() -> None:
    with open("/dev/full", "wb") as full:
        process = in_python("output.say('x')", stdout=full)
        errors = process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert errors == b"coatcheck: the output cannot be written: No space left on device\n"


def test_a_closed_output_is_nobodys_trouble() -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec '{sys.executable}' -c 'from appliance.cli import output; output.say(\"x\")' >&-"],
        capture_output=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (7500, "2h05m"), (90_000, "1d01h")],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert length(seconds) == text


def test_no_moment_is_nothing() -> None:
    assert moment(0.0) == ""
