"""Files of a sweep directory that are cut off, changed or gone: each is detected, made again, or harmless."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.faults import local_cluster
from tests.faults.damaged import HARMS, KINDS, Damaged, Tally, suffer
from tests.faults.results import Results
from tests.workplace import Workplace
from trainables import checkpoint
from trainables.directory import TrialDirectory
from trainables.errors import CorruptFile
from trainables.files import read_json
from workflows.error_analysis import read_test

SEED = 20261125
DAMAGES = int(os.environ.get("FAULT_DAMAGES", "1000"))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    return Damaged(tmp_path_factory.mktemp("damaged"))


def judge(damaged: Damaged, seed: int, count: int) -> Tally:
    tally = suffer(damaged, seed, count, tuple(KINDS))
    assert not tally.wrong, "\n".join(["", *tally.lines(), *tally.wrong])
    assert set(tally.counts) == set(KINDS)
    # A result says so itself: nothing of it can be changed unseen.
    assert tally.counts["result"]["harmless"] <= tally.counts["result"]["cases"] / 2
    return tally


def test_random_damages_are_each_detected_redone_or_harmless_and_change_no_answer(damaged: Damaged) -> None:
    one_of_each = sum(map(len, damaged.files.values()))
    judge(damaged, SEED, one_of_each)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_many_random_damages_are_each_detected_redone_or_harmless(damaged: Damaged, results: Results) -> None:
    tally = judge(damaged, SEED + 1, DAMAGES)
    results.say(
        "damages",
        f"{DAMAGES} files were damaged at random, one by one: cut off, a bit flipped, or gone. None changed an answer "
        "without a word, none ended in a traceback. What came of them (a case may be two of these):\n\n"
        + "\n".join(f"    {line}" for line in tally.lines()),
    )


def test_changed_predictions_never_change_a_report_without_a_word(damaged: Damaged) -> None:
    damaged.restore("finished")
    path = a_result(damaged).with_name("predictions.parquet")
    change_unseen(path)
    with pytest.raises(CorruptFile, match=r"predictions\.parquet"):
        read_test(TrialDirectory(path.parent))


def change_unseen(path: Path) -> None:
    """Change the first bit that makes a table say something else and leaves it readable."""
    before, table = path.read_bytes(), pq.read_table(path)
    for place in range(len(before)):
        path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
        with contextlib.suppress(Exception):
            if not pq.read_table(path).equals(table):
                return


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_changed_tokens_never_change_a_leaderboard_without_a_word(damaged: Damaged) -> None:
    tally = suffer(damaged, SEED, 40, ("tokens",))
    assert not tally.wrong, "\n".join(tally.wrong)


def test_a_damaged_checkpoint_that_was_to_be_published_is_trained_anew_by_the_same_command(damaged: Damaged) -> None:
    damaged.restore("finished")
    champion = damaged.sweep.trial(read_json(damaged.sweep.leaderboard_json)["champion"])
    damaged.sweep.tracking.unlink()
    HARMS["flip a bit of"](champion.checkpoint / checkpoint.WEIGHTS, np.random.default_rng(1))
    register = "tracking.register_as=tiny-reviews"
    with pytest.raises(CorruptFile, match=r"trainable\.safetensors .*run the sweep again"):
        local_cluster.sweep(damaged.folder, register)
    outcome, _ = local_cluster.sweep(damaged.folder, register)
    assert outcome.exit_code == 0
    assert damaged.leaderboard() == damaged.expected
    assert damaged.use_champion() == damaged.champion


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def a_result(damaged: Damaged) -> Path:
    return damaged.sweep.trial(read_json(damaged.sweep.leaderboard_json)["champion"]).result


def the_weights(damaged: Damaged) -> Path:
    return a_result(damaged).parent / "checkpoint" / checkpoint.WEIGHTS


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (("report", "runs/tiny"), a_result),
        (("predict", "runs/tiny", "a fine film"), the_weights),
        (("sweep", "sweep.yaml"), lambda damaged: damaged.sweep.manifest),
    ],
    ids=["report", "predict", "sweep"],
)
def test_a_command_on_a_damaged_sweep_ends_with_exit_4_and_one_message_that_names_the_file(
    damaged: Damaged, command: tuple[str, ...], file: Callable[[Damaged], Path]
) -> None:
    damaged.restore("finished")
    cut(file(damaged))
    ended = Workplace(damaged.folder).fleetune(*command)
    assert ended.returncode == 4, ended.stdout + ended.stderr
    assert str(file(damaged).relative_to(damaged.folder)) in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["result", "state", "epoch", "baseline model", "data"])
def test_the_same_command_finishes_a_sweep_that_was_interrupted_and_damaged(damaged: Damaged, kind: str) -> None:
    damaged.restore("interrupted")
    path = damaged.storage / damaged.files["interrupted"][kind][0]
    cut(path)
    ended = Workplace(damaged.folder).fleetune("sweep", "sweep.yaml")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert damaged.leaderboard() == damaged.expected
