"""Every bad input of the list ends with one message and exit 2 before Ray starts, or is said and gone on with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tests.bad_input.config_rows import CONFIG_ROWS
from tests.bad_input.data_rows import DATA_ROWS, csv
from tests.bad_input.rows import Row, before_ray, ended, made
from tests.tiny import tiny_model
from tests.tiny_data import reviews_csv
from tests.workplace import Workplace
from trainables.errors import BadInput
from trainables.precision import Hardware
from workflows import cluster, manifest
from workflows.cluster import Cluster, Node, Request, choose_precision
from workflows.data import formats

ROWS = [*CONFIG_ROWS, *DATA_ROWS]
REFUSED = [row for row in ROWS if not row.accepted]
ACCEPTED = [row for row in ROWS if row.accepted]
# Why a number of the list has no row here.
NO_ROW = {
    14: "every policy trains the head, so none leaves nothing to train",
    31: "a sweep has one writer",
    **dict.fromkeys((54, 55, 57, 58, 59, 60, 61, 71), "the data audit looks for it"),
    70: "test_data_that_changed_since_the_sweep_began_are_refused_with_both_fingerprints",
    72: "test_a_file_that_changes_while_it_is_read_is_refused",
    **dict.fromkeys((73, 74, 75, 76, 77), "test_artifacts.py"),
}
_MODELS = ("bert", "roberta")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models that no test changes, and reviews."""
    folder = tmp_path_factory.mktemp("models")
    for name in _MODELS:
        tiny_model(name, folder / name)
    reviews_csv(folder / "reviews.csv")
    return folder


@pytest.fixture
def folder(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with models and reviews in it."""
    for name in _MODELS:
        (tmp_path / name).symlink_to(models / name)
    (tmp_path / "reviews.csv").write_bytes((models / "reviews.csv").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def spent() -> Iterator[list[float]]:
    """Seconds of CPU that each refusal took; half of them must take less than one."""
    found: list[float] = []
    yield found
    assert not found or statistics.median(found) < 1


def test_every_number_of_the_list_has_a_row_or_a_reason() -> None:
    assert {int(row.number) for row in ROWS} | NO_ROW.keys() == set(range(1, 78))


@pytest.mark.parametrize("row", REFUSED, ids=[row.id for row in REFUSED])
def test_bad_input_ends_with_exit_2_and_one_message_and_leaves_nothing(
    row: Row,
    folder: Path,
    spent: list[float],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made(row, folder)
    for name, value in row.environment.items():
        monkeypatch.setenv(name, value)
    before = time.process_time()
    code, told = ended(lambda: before_ray(row), capsys)
    spent.append(time.process_time() - before)
    assert code == 2, told
    for part in row.says:
        assert part in told
    for part in ("Traceback", "\x1b", *row.never):
        assert part not in told
    assert [path.name for path in folder.glob("runs/*")] == []
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize("row", ACCEPTED, ids=[row.id for row in ACCEPTED])
def test_what_is_only_odd_is_said_and_gone_on_with(row: Row, folder: Path) -> None:
    made(row, folder)
    prepared, printed = before_ray(row)
    assert len(prepared.plan("fp32")) == 1
    for part in row.says:
        assert part in printed
    for part in row.never:
        assert part not in printed


def test_a_rate_without_a_dot_and_one_in_quotes_are_the_number(folder: Path) -> None:
    for row in (row for row in ACCEPTED if row.number == "7"):
        made(row, folder)
        (trial,) = before_ray(row)[0].plan("fp32")
        assert trial.training.learning_rate == 1e-5


def test_a_million_trials_are_refused_without_being_listed(folder: Path) -> None:
    (row,) = (row for row in ROWS if row.what == "a grid of a million trials")
    made(row, folder)
    before = time.process_time()
    with pytest.raises(BadInput):
        before_ray(row)
    assert time.process_time() - before < 1


def test_a_grid_may_be_as_large_as_max_trials_says(folder: Path) -> None:
    made(Row("11", "seven seeds"), folder)
    seven = ("search.seeds=[1, 2, 3, 4, 5, 6, 7]",)
    assert len(before_ray(Row("11", "allowed", (*seven, "search.max_trials=7")))[0].plan("fp32")) == 7
    with pytest.raises(BadInput, match=r"7 trials \(seeds 7\), but search\.max_trials allows 6"):
        before_ray(Row("11", "one too many", (*seven, "search.max_trials=6")))


def test_a_secret_that_comes_by_an_override_is_taken(folder: Path) -> None:
    made(Row("34", "a sound sweep"), folder)
    uri = "postgresql+psycopg2://me:pa$word@host/db"
    prepared, printed = before_ray(Row("34", "by --set", (f"tracking.uri={uri}",)))
    assert prepared.tracking_uri == uri
    assert "pa$word" not in printed


def test_bf16_is_refused_where_the_device_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "probe", lambda: Hardware("an old card", bf16_supported=False, bf16_gain=0.0))
    here = Cluster((Node("127.0.0.1", 2, 0, "n"),), is_own=True)
    with pytest.raises(BadInput, match=r"training\.bf16: true, but an old card has no bf16; set it to false or null"):
        choose_precision(True, here, Request(1, 0), Console())


def test_bf16_that_is_only_emulated_is_used_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "probe", lambda: Hardware("cpu", bf16_supported=True, bf16_gain=0.01))
    here = Cluster((Node("127.0.0.1", 2, 0, "n"),), is_own=True)
    assert choose_precision(True, here, Request(1, 0), Console()) == "bf16"
    assert "products in bf16 take 100 times as long as in fp32" in capsys.readouterr().out


def test_data_that_changed_since_the_sweep_began_are_refused_with_both_fingerprints(folder: Path) -> None:
    row = Row("70", "a sound sweep")
    made(row, folder)
    begun, _ = before_ray(row)
    planned = begun.plan("fp32")
    manifest.write(begun.sweep, begun.config, begun.data, "fp32", [[planned[0].trial_id]], planned, None)
    csv()(folder)
    changed, _ = before_ray(row)
    with pytest.raises(BadInput) as refused:
        changed.continued(None)  # type: ignore[arg-type]
    told = str(refused.value)
    assert f"data: fingerprint {begun.data.fingerprint[:12]} → {changed.data.fingerprint[:12]}" in told
    assert "give the new sweep another name (--set name=…)" in told


def test_a_file_that_changes_while_it_is_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(Row("72", "a sound sweep"), folder)
    read = Path.read_bytes

    def read_and_append(path: Path) -> bytes:
        content = read(path)
        with path.open("ab") as stream:
            stream.write(b"one more,positive\n")
        return content

    monkeypatch.setattr(formats.Path, "read_bytes", read_and_append)
    with pytest.raises(BadInput, match=r"reviews\.csv: was changed while it was read; wait"):
        before_ray(Row("72", "changed"))


# By the command line itself: one of each stage, and what only a process of its own can show.
COMMANDS = [
    ("1", ("swep.yaml",), "swep.yaml: no such file; did you mean 'sweep.yaml'?"),
    ("12", ("sweep.yaml", "--set", "search.space.0.freeze=hed"), "did you mean 'head'?"),
    (
        "16",
        ("sweep.yaml", "--set", "search.space.0.model=bert-base-uncasd"),
        "a model is a folder, a Hub id, or pkg://",
    ),
    ("43", ("sweep.yaml", "--set", "data.text_column=review"), "no column 'review'; Known: text, label."),
    ("67", ("sweep.yaml", "--set", "data.path=some-one/no-such-set"), "and the Hub cannot be used. A source is "),
]


@pytest.mark.parametrize(("number", "arguments", "says"), COMMANDS, ids=[row[0] for row in COMMANDS])
def test_the_command_itself_ends_with_exit_2_and_starts_nothing(
    number: str, arguments: tuple[str, ...], says: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(Row(number, "a sound sweep"), folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(folder / "hub"))
    told = Workplace(folder).fleetune("sweep", *arguments)
    assert told.returncode == 2, told.stdout + told.stderr
    assert says in " ".join(told.stderr.split())
    assert "Traceback" not in told.stderr
    assert "starting Ray" not in told.stdout
    assert [path.name for path in folder.glob("runs/*")] == []
