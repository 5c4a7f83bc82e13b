"""Files are whole or not there; what was changed afterwards is noticed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.errors import CorruptFile
from trainables.files import (
    COMMIT,
    is_committed,
    new_directory,
    new_file,
    read_json,
    remove_scratch,
    verify,
    write_json,
    write_text,
)


def make(final: Path, **content: str) -> None:
    with new_directory(final) as scratch:
        for name, text in content.items():
            (scratch / name).write_text(text)


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    value = {"ä": [1, 2.5, None, True], "nested": {"x": "y"}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


def test_json_with_nan_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert read_json(path) == {"x": 1}
    assert os.listdir(tmp_path) == ["a.json"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_cut_or_flipped_byte_of_a_json_file_is_noticed_or_harmless(data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        value = {"metrics": {"validation/accuracy": 0.875}, "epoch": 3, "status": "DONE"}
        write_json(path, value)
        content = bytearray(path.read_bytes())
        position = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content = content[:position]
        else:
            content[position] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        try:
            assert read_json(path) == value
        except CorruptFile as error:
            assert str(path) in str(error)


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "checkpoint"
    with pytest.raises(RuntimeError), new_directory(final) as scratch:
        (scratch / "half").write_text("x")
        raise RuntimeError
    assert not final.exists()
    assert os.listdir(tmp_path) == []


def test_a_second_directory_replaces_the_first(tmp_path: Path) -> None:
    make(tmp_path / "checkpoint", a="1")
    make(tmp_path / "checkpoint", b="2")
    assert sorted(os.listdir(tmp_path / "checkpoint")) == [COMMIT, "b"]
    verify(tmp_path / "checkpoint")
    assert os.listdir(tmp_path) == ["checkpoint"]


def test_of_several_that_make_one_directory_at_once_the_first_stays_or_the_last_wins(tmp_path: Path) -> None:
    for replace, expected in ((False, "first"), (True, "second")):
        final = tmp_path / str(replace)
        with new_directory(final, replace=replace) as slow:
            (slow / "content").write_text("second")
            with new_directory(final, replace=replace) as fast:
                (fast / "content").write_text("first")
        verify(final)
        assert (final / "content").read_text() == expected
    assert sorted(os.listdir(tmp_path)) == ["False", "True"]


@pytest.mark.parametrize("has_links", [True, False])
def test_of_several_that_make_one_file_at_once_the_first_stays_or_the_last_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:

        def refused(*_: object) -> None:
            raise PermissionError("no hard links here")

        monkeypatch.setattr(os, "link", refused)
    for replace, expected in ((False, "first"), (True, "second")):
        final = tmp_path / str(replace)
        with new_file(final, replace=replace) as slow:
            slow.write_text("second")
            with new_file(final, replace=replace) as fast:
                fast.write_text("first")
        assert final.read_text() == expected
    assert sorted(os.listdir(tmp_path)) == ["False", "True"]


def test_verify_names_the_file_that_is_not_what_was_committed(tmp_path: Path) -> None:
    final = tmp_path / "checkpoint"
    make(final, weights="0123456789")
    verify(final)
    for spoil in (
        lambda path: path.write_text("0123456780"),
        lambda path: path.write_text("0123"),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("/etc/hostname")),
    ):
        (final / "weights").unlink(missing_ok=True)
        (final / "weights").write_text("0123456789")
        spoil(final / "weights")
        with pytest.raises(CorruptFile, match="weights"):
            verify(final)


def test_a_directory_without_its_commit_file_does_not_count(tmp_path: Path) -> None:
    final = tmp_path / "checkpoint"
    make(final, weights="x")
    (final / COMMIT).unlink()
    assert not is_committed(final)
    with pytest.raises(CorruptFile, match="never finished"):
        verify(final)


def test_text_is_replaced_atomically(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert os.listdir(path.parent) == ["a.txt"]


_KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
import pyarrow
from trainables.files import new_directory, write_parquet

class Killed:
    def __getattr__(self, name):
        os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "file":
    write_parquet(Path(sys.argv[1]) / "table.parquet", Killed())
with new_directory(Path(sys.argv[1]) / "state") as scratch:
    (scratch / "tensors").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "result.json", {"status": "FINISHED"})
    (tmp_path / ".gitignore").write_text("*")
    before = set(tmp_path.iterdir())
    for what in ("file", "directory"):
        done = subprocess.run([sys.executable, "-c", _KILLED_WHILE_WRITING, str(tmp_path), what], check=False)
        assert done.returncode == -signal.SIGKILL
    assert len(set(tmp_path.iterdir()) - before) == 2
    remove_scratch(tmp_path)
    assert set(tmp_path.iterdir()) == before
