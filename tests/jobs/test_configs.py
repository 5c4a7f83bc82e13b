"""The shipped sweeps, changed by `--set` alone: on local copies of their sets with the real encoder, and tiny ones."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.real_data import minilm, real_set
from tests.tiny import tiny_model
from tests.tiny_data import reviews
from tests.workplace import ROOT, Workplace
from trainables.files import read_json

pytestmark = pytest.mark.slow
CONFIGS = ROOT / "jobs" / "configs"
SMALL = ("training.num_train_epochs=1", "training.max_length=24", "data.sizes={train: 120, validation: 40, test: 60}")


def run(folder: Path, config: str, *overrides: str) -> list[dict]:
    """Run a shipped sweep and return the rows of its leaderboard."""
    workplace = Workplace(folder)
    sets = [word for override in (*overrides, *SMALL) for word in ("--set", override)]
    ended = workplace.fleetune("sweep", str(CONFIGS / f"{config}.yaml"), *sets)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = workplace.leaderboard(config)["rows"]
    assert {row["status"] for row in rows} == {"DONE"}
    assert {row["trial_id"] for row in rows if row["kind"] == "baseline"} == {"majority", "tfidf"}
    return [row for row in rows if row["kind"] == "trial"]


@pytest.mark.parametrize(
    ("config", "data", "labels"),
    [
        ("imdb", "imdb_2k_2k", ["negative", "positive"]),
        ("ag_news", "ag_news_8k_2k", ["World", "Sports", "Business", "Sci/Tech"]),
        ("lora", "imdb_2k_2k", ["negative", "positive"]),
    ],
)
def test_a_shipped_sweep_runs_on_a_local_copy_of_its_set_with_the_real_encoder(
    config: str, data: str, labels: list[str], tmp_path: Path
) -> None:
    path = real_set(f"{data}.parquet")
    # One rate and one seed of each policy are enough to see that it runs.
    few = ("search.seeds=[1]", "search.space.*.learning_rate=1e-4")
    rows = run(tmp_path, config, f"data.path={path}", f"search.space.*.model={minilm()}", *few)
    assert {row["freeze"] for row in rows} == {
        "imdb": {"full", "embeddings", "top-2", "head"},
        "ag_news": {"full", "top-2"},
        "lora": {"full", "head", "lora"},
    }[config]
    manifest = read_json(tmp_path / "runs" / config / "manifest.json")
    assert manifest["labels"] == labels
    assert manifest["data"]["rows"] == {"train": 120, "validation": 40, "test": 60}
    assert not any("test was cut" in note for note in manifest["data"]["notes"]), "the split column was not honoured"


def test_trec_runs_with_a_config_of_a_few_lines(tmp_path: Path) -> None:
    path = real_set("trec6.parquet")
    rows = run(
        *(tmp_path, "ag_news", f"data.path={path}", "data.labels=null", "search.seeds=[1]"),
        *("search.space.*.learning_rate=1e-4", f"search.space.*.model={minilm()}"),
    )
    assert len(rows) == 2
    assert len(read_json(tmp_path / "runs" / "ag_news" / "manifest.json")["labels"]) == 6


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny random models of three families, and reviews with numbers as labels and a split column."""
    folder = tmp_path_factory.mktemp("tiny")
    for model_type in ("bert", "distilbert", "albert"):
        tiny_model(model_type, folder / model_type)
    with (folder / "reviews.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "split"])
        for index, (text, label) in enumerate(zip(*reviews(240), strict=True)):
            writer.writerow([text, label, "test" if index % 4 == 0 else "train"])
    return folder


def test_the_tutorials_sweep_runs_on_tiny_models_of_its_three_families(tiny: Path) -> None:
    rows = run(
        *(tiny, "imdb", "data.path=reviews.csv", "search.space.0.model=[./distilbert, ./bert]"),
        *("search.space.1.model=./albert", "search.space.2.model=[./distilbert, ./bert, ./albert]"),
        "search.space.*.learning_rate=1e-3",
    )
    assert {row["model"] for row in rows} == {"./distilbert", "./bert", "./albert"}
    assert {row["freeze"] for row in rows if row["model"] == "./albert"} == {"full", "embeddings", "head"}


def test_the_lora_sweep_runs_on_a_tiny_model_and_compares_its_ranks(tiny: Path) -> None:
    rows = run(
        tiny, "lora", "data.path=reviews.csv", "search.space.*.model=./bert", "search.space.*.learning_rate=1e-3"
    )
    assert {row["lora_r"] for row in rows if row["freeze"] == "lora"} == {2, 8, 32}
    trained = {row["lora_r"]: row["trainable_parameters"] for row in rows if row["freeze"] == "lora"}
    assert (
        trained[2] < trained[8] < trained[32] < next(r["trainable_parameters"] for r in rows if r["freeze"] == "full")
    )
    graphs = list((tiny / "runs/lora/inference").glob("*.json"))
    assert sum(not read_json(path)["merged"] for path in graphs) == 3, "each rank has an unmerged graph of its own"
    report = (tiny / "runs/lora/report.html").read_text()
    assert "LoRA" in report
