"""What people see of a sweep in the MLflow UI: a real server, a real headless Chromium."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import recorded
from tests.mlflow_server import Server
from trainables.directory import SweepDirectory
from workflows.tracking.mirror import Mirror

pytestmark = [pytest.mark.browser, pytest.mark.quick]
FIRST, SECOND = recorded.TRIALS
MARK = "<b>seen as text</b>"
# The pages keep their content in frames now and then; this is all text of the page itself.
TEXT = "document.body.innerText"


@pytest.fixture(scope="session")
def pages(mlflow_server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A finished sweep in a server: the address of the experiment, and of the run of each trial and of the sweep."""
    import pandas as pd

    sweep = recorded.begin(tmp_path_factory.mktemp("runs") / "demo")
    recorded.finish(sweep)
    data = sweep.cache.data("f" * 64)
    data.mkdir(parents=True)
    texts = {"row": range(4), "text": [f"{MARK} {row}" for row in range(4)], "text_pair": None}
    pd.DataFrame(texts).to_parquet(data / "test.parquet")
    _report(sweep)
    mirror = Mirror(sweep, mlflow_server.uri, "demo")
    mirror.deliver()
    mirror.close("FINISHED")
    experiment = mirror.client.get_experiment_by_name("demo").experiment_id
    address = f"{mlflow_server.uri}/#/experiments/{experiment}"
    found = {"experiment": f"{address}/runs"}
    for run in mirror.client.search_runs([experiment]):
        found[run.data.tags.get("fleetune.trial_id", "sweep")] = f"{address}/runs/{run.info.run_id}"
    ids = [found[name].rsplit("/", 1)[1] for name in (FIRST, SECOND)]
    found["compare"] = f'{mlflow_server.uri}/#/compare-runs?runs=["{ids[0]}","{ids[1]}"]&experiments=["{experiment}"]'
    return found


def _report(sweep: SweepDirectory) -> None:
    from workflows.report import write_report

    write_report(sweep)


def test_the_experiment_opens_on_its_runs(
    visit: Callable[[str], None], wait_for: Callable[..., Any], pages: dict[str, str]
) -> None:
    visit(pages["experiment"])
    wait_for(f"{TEXT}.includes('4 matching runs')")


def test_the_parent_run_shows_the_champions_scores_and_names_its_trials(
    visit: Callable[[str], None], wait_for: Callable[..., Any], pages: dict[str, str]
) -> None:
    visit(pages["sweep"])
    wait_for(f"{TEXT}.includes('validation/accuracy') && {TEXT}.includes('0.8')")
    wait_for(f"{TEXT}.includes('MiniLM · full · lr 5e-05 · seed 1')")


def test_a_trial_shows_its_confusion_matrix(
    visit: Callable[[str], None], wait_for: Callable[..., Any], pages: dict[str, str], tmp_path: Path
) -> None:
    visit(f"{pages[FIRST]}/artifacts/confusion/test.png")
    wait_for("[...document.images].some(image => image.naturalWidth > 300 && image.naturalHeight > 200)")


def test_a_trial_shows_its_worst_texts_as_a_table_and_their_markup_as_text(
    visit: Callable[[str], None], wait_for: Callable[..., Any], pages: dict[str, str]
) -> None:
    visit(f"{pages[FIRST]}/artifacts/errors/worst_texts.json")
    wait_for(f"{TEXT}.includes('probability_of_label') && {TEXT}.includes('tokens_cut')")
    wait_for(f"{TEXT}.includes({MARK!r})")


def test_the_parent_run_shows_the_report(
    chromium: Any, visit: Callable[[str], None], wait_for: Callable[..., Any], pages: dict[str, str]
) -> None:
    visit(f"{pages['sweep']}/artifacts/report/report.html")
    wait_for("document.querySelector('iframe') !== null")
    chromium.switch_to.frame(chromium.find_element("css selector", "iframe"))
    wait_for(f"{TEXT}.includes('Champion')")
    wait_for("document.querySelectorAll('svg[role=img]').length > 2")
    chromium.switch_to.default_content()


def test_two_trials_can_be_compared(
    visit: Callable[[str], None], wait_for: Callable[..., Any], pages: dict[str, str]
) -> None:
    visit(pages["compare"])
    wait_for(f"/comparing 2 runs/i.test({TEXT})")
    # The table of metrics draws its first rows only.
    wait_for(f"{TEXT}.includes('test/accuracy') && {TEXT}.includes('learning_rate')")
