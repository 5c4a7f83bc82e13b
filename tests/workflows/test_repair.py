"""What is damaged is cleared, so that it is made again; what is whole is not touched."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests import recorded
from trainables.directory import SweepDirectory
from trainables.errors import CorruptFile
from trainables.files import new_directory, read_json, write_json
from workflows import repair
from workflows.error_analysis import read_test

FIRST, SECOND = recorded.TRIALS


@pytest.fixture
def sweep(tmp_path: Path) -> SweepDirectory:
    """A finished sweep, with checkpoints and a measured cost."""
    sweep = recorded.begin(tmp_path / "demo")
    recorded.finish(sweep)
    recorded.cost(sweep, "majority")
    for trial_id in recorded.TRIALS:
        with new_directory(sweep.trial(trial_id).checkpoint) as scratch:
            (scratch / "trainable.safetensors").write_bytes(b"weights")
    return sweep


def everything(sweep: SweepDirectory) -> dict[str, bytes]:
    return {str(path.relative_to(sweep.root)): path.read_bytes() for path in sweep.root.rglob("*") if path.is_file()}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def gone(before: dict[str, bytes], sweep: SweepDirectory) -> set[str]:
    after = everything(sweep)
    assert after.items() <= before.items()
    return before.keys() - after.keys()


def under_way(sweep: SweepDirectory, *states: tuple[int, int | None]) -> None:
    """The first trial has no result yet, and these states: at the end of an epoch, or within it after a step."""
    sweep.trial(FIRST).result.unlink()
    for epoch, step in states:
        with new_directory(sweep.trial(FIRST).state_at(epoch, step)) as scratch:
            (scratch / "state.json").write_text("{}")


def test_a_whole_sweep_is_left_as_it_is(sweep: SweepDirectory) -> None:
    before = everything(sweep)
    assert repair.clear(sweep) == []
    assert everything(sweep) == before


@pytest.mark.parametrize("name", ["result.json", "epoch-001.json", "predictions.parquet", "checkpoint/COMMIT"])
@pytest.mark.parametrize("harm", [cut, Path.unlink])
def test_a_trial_of_which_something_is_damaged_has_not_ended(sweep: SweepDirectory, name: str, harm: object) -> None:
    assert callable(harm)
    harm(sweep.trial(FIRST).root / name)
    before = everything(sweep)
    notes = repair.clear(sweep)
    if f"trials/{FIRST}/result.json" in before:
        assert gone(before, sweep) == {f"trials/{FIRST}/result.json"}
        (note,) = notes
        assert FIRST in note


def rewritten(path: Path) -> None:
    """A table of as many rows that any reader takes, and that is not what was scored."""
    table = pq.read_table(path)
    turned = pc.subtract(1, table["predicted"])
    pq.write_table(table.set_column(table.schema.get_field_index("predicted"), "predicted", turned), path)


@pytest.mark.parametrize("kind", ["trial", "baseline"])
def test_predictions_that_can_be_read_but_are_others_are_damaged(sweep: SweepDirectory, kind: str) -> None:
    directory = sweep.trial(FIRST) if kind == "trial" else sweep.baseline("majority")
    write_json(sweep.baseline("majority").model, {})
    rewritten(directory.predictions)
    with pytest.raises(CorruptFile, match=r"predictions\.parquet"):
        read_test(directory)
    (note,) = repair.clear(sweep)
    assert str(directory.predictions) in note and not directory.result.exists()


def test_predictions_of_an_earlier_version_have_no_hash_and_are_read_as_before(sweep: SweepDirectory) -> None:
    directory = sweep.trial(FIRST)
    stored = read_json(directory.result)
    del stored["predictions_sha256"]
    write_json(directory.result, stored)
    rewritten(directory.predictions)
    assert len(read_test(directory)) == 4
    assert repair.clear(sweep) == []


def test_what_is_derived_or_measured_is_made_again(sweep: SweepDirectory) -> None:
    for path in (sweep.leaderboard_json, sweep.inference_cost("majority"), sweep.trial(FIRST).spec):
        cut(path)
    before = everything(sweep)
    assert len(repair.clear(sweep)) == 3
    assert gone(before, sweep) == {"leaderboard.json", "inference/majority.json", f"trials/{FIRST}/trial.json"}


@pytest.mark.parametrize("states", [[(1, None), (2, None)], [(2, None), (3, 7)], [(3, 7), (3, 8)]])
def test_a_trial_under_way_goes_on_without_its_newest_record_but_not_without_an_earlier_one(
    sweep: SweepDirectory, states: list[tuple[int, int | None]]
) -> None:
    under_way(sweep, *states)
    cut(sweep.trial(FIRST).epoch(2))
    repair.clear(sweep)
    assert sweep.trial(FIRST).state.is_dir()
    assert [path.name for path in sweep.trial(FIRST).epochs()] == ["epoch-001.json"]
    cut(sweep.trial(FIRST).epoch(1))
    under_way_before = everything(sweep)
    assert repair.clear(sweep)
    assert not sweep.trial(FIRST).state.exists()
    assert all(FIRST in path for path in gone(under_way_before, sweep))


def test_a_trial_in_its_first_epoch_has_no_record_to_lack(sweep: SweepDirectory) -> None:
    under_way(sweep, (1, 2))
    for path in sweep.trial(FIRST).epochs():
        path.unlink()
    before = everything(sweep)
    assert repair.clear(sweep) == []
    assert everything(sweep) == before


def test_what_a_search_has_drawn_is_nowhere_else_and_is_not_cleared(sweep: SweepDirectory) -> None:
    cut(sweep.trial(FIRST).spec)
    before = everything(sweep)
    with pytest.raises(CorruptFile, match=r"trial\.json"):
        repair.clear(sweep, drawn=True)
    sweep.trial(FIRST).spec.unlink()
    with pytest.raises(CorruptFile, match="nothing else says what this trial was"):
        repair.clear(sweep, drawn=True)
    assert before.keys() - everything(sweep).keys() == {f"trials/{FIRST}/trial.json"}
