"""A sweep directory that is damaged at random, one file at a time, and what its user then meets.

A case damages one file of a finished or an interrupted sweep and does what a user does: reads the report, uses the
champion, runs the same command again. Each answer is the undamaged one, or one typed error that names the file.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.faults import local_cluster
from tests.tiny import tiny_model
from tests.tiny_data import reviews_csv
from trainables.arguments import TrialSpec
from trainables.directory import SweepDirectory
from trainables.errors import FleetuneError
from trainables.files import read_json
from trainables.trial import run_trial
from workflows import figures
from workflows.export import export
from workflows.predict import load_classifier, predict
from workflows.report import content
from workflows.report.render import _progress
from workflows.report.sections import SECTIONS

SWEEP: dict[str, Any] = {
    "name": "tiny",
    "data": {"path": "reviews.csv"},
    "search": {"space": [{"model": "./bert", "freeze": ["full", "head", "top-1"], "learning_rate": 3e-3}]},
    "training": {"num_train_epochs": 3, "per_device_train_batch_size": 16, "max_length": 16, "bf16": False},
    "baselines": ["majority", "tfidf"],
    "tracking": {"checkpoints": "none"},
}
TEXTS = ["great love the movie was a story", "terrible awful the movie was a story"]
# Every kind of file that a sweep leaves, by its path below the storage folder.
KINDS = {
    "manifest": r"tiny/manifest\.json",
    "trial.json": r"tiny/trials/\w+/trial\.json",
    "epoch": r"tiny/trials/\w+/epoch-\d+\.json",
    "result": r"tiny/trials/\w+/result\.json",
    "predictions": r"tiny/trials/\w+/predictions\.parquet",
    "calibration": r"tiny/(trials|baselines)/\w+/calibration\.json",
    "checkpoint": r"tiny/trials/\w+/checkpoint/(?!COMMIT).*",
    "checkpoint COMMIT": r"tiny/trials/\w+/checkpoint/COMMIT",
    "state": r"tiny/trials/\w+/state/.*/(?!COMMIT).*",
    "state COMMIT": r"tiny/trials/\w+/state/.*/COMMIT",
    "baseline result": r"tiny/baselines/\w+/result\.json",
    "baseline model": r"tiny/baselines/\w+/model\.json",
    "baseline predictions": r"tiny/baselines/\w+/predictions\.parquet",
    "inference": r"tiny/inference/.*",
    "leaderboard.json": r"tiny/leaderboard\.json",
    "label errors": r"tiny/label_errors\.json",
    "leaderboard.csv": r"tiny/leaderboard\.csv",
    "check": r"tiny/check\.json",
    "tracking": r"tiny/tracking\.json",
    "data": r"cache/data/\w+/(?!COMMIT).*",
    "data COMMIT": r"cache/data/\w+/COMMIT",
    "tokens": r"cache/tokens/\w+/(?!COMMIT).*",
    "tokens COMMIT": r"cache/tokens/\w+/COMMIT",
    "figures": r"tiny/figures/.*",
    "report": r"tiny/report\.html",
}
# What a trial costs is measured anew where it is made anew.
_MEASURED = re.compile("seconds|bytes|latency|throughput")
_FOR_THE_CHAMPION = ("manifest", "leaderboard.json", "checkpoint", "checkpoint COMMIT", "calibration")


class Ended(SystemExit):
    """How a trial is ended from outside: inside its report."""


@dataclass(frozen=True)
class Case:
    """One damage: which sweep, which file (below the storage folder), and what is done to it."""

    number: int
    sweep: str
    kind: str
    path: str
    harm: str

    def __str__(self) -> str:
        return f"case {self.number}: {self.harm} {self.path} of the {self.sweep} sweep"


@dataclass
class Verdict:
    """What came of a case: `words` from detected, redone, harmless; `wrong` is what must not be."""

    words: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


class Damaged:
    """A storage folder with one sweep, kept in two states: finished, and interrupted with a trial under way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = folder / "runs"
        self.sweep = SweepDirectory(self.storage / "tiny")
        tiny_model("bert", folder / "bert", num_hidden_layers=2)
        reviews_csv(folder / "reviews.csv", 96)
        (folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
        outcome, said = local_cluster.sweep(folder, tracked=True)
        assert outcome.exit_code == 0, said
        self._keep("finished")
        self.expected = self.leaderboard()
        self.report = _report(self.sweep)[0]
        self.champion = self.use_champion()
        self.baselines = {name: self.use_baseline(name) for name in SWEEP["baselines"]}
        self._interrupt()
        self._keep("interrupted")
        self.files = {state: self._list(state) for state in ("finished", "interrupted")}

    def leaderboard(self) -> list[dict[str, Any]]:
        """The rows, without what was measured by the clock."""
        board = read_json(self.sweep.leaderboard_json)
        rows = [{key: value for key, value in row.items() if not _MEASURED.search(key)} for row in board["rows"]]
        return [{"champion": board["champion"]}, *rows]

    def restore(self, state: str) -> None:
        """Make the storage folder what it was in a state."""
        for name in ("tiny", "cache"):
            shutil.rmtree(self.storage / name, ignore_errors=True)
            shutil.copytree(self.folder / state / name, self.storage / name)

    def case(self, seed: int, number: int, kinds: Collection[str] = tuple(KINDS)) -> Case:
        """A random case that every number gives again; `kinds` come in turn, so that each occurs."""
        chance = np.random.default_rng([seed, number])
        possible = [(state, kind) for kind in kinds for state in self.files if self.files[state].get(kind)]
        state, kind = possible[number % len(possible)]
        path = str(chance.choice(self.files[state][kind]))
        return Case(number, state, kind, path, str(chance.choice(list(HARMS))))

    def suffer(self, case: Case, seed: int) -> Verdict:
        """Do the damage and what a user does after it, and judge."""
        self.restore(case.sweep)
        path = self.storage / case.path
        before = path.read_bytes()
        HARMS[case.harm](path, np.random.default_rng([seed, case.number, 1]))
        verdict = Verdict()
        if path.exists() and path.read_bytes() == before:
            verdict.words.add("harmless")
            return verdict
        user = _User(self, case, verdict)
        user.reads_the_report()
        if case.kind in _FOR_THE_CHAMPION and case.sweep == "finished":
            user.uses_the_champion()
        if case.kind.startswith("baseline"):
            user.uses_the_baseline()
        user.runs_the_sweep_again()
        verdict.words = verdict.words or {"harmless"}
        return verdict

    def use_baseline(self, name: str) -> Any:
        """What a baseline says of some texts."""
        found = predict(load_classifier(str(self.sweep.baseline(name).root)), TEXTS)
        return [prediction.probabilities for prediction in found]

    def _interrupt(self) -> None:
        """As a kill leaves it: one trial finished, one ended after its second epoch, one not begun; nothing derived."""
        under_way, finished, waiting = (
            self.sweep.trial(trial_id) for trial_id in read_json(self.sweep.manifest)["trials"]
        )
        for path in (under_way.result, under_way.predictions, *under_way.epochs()):
            path.unlink()
        shutil.rmtree(under_way.checkpoint)
        shutil.rmtree(waiting.root)
        for path in (self.sweep.leaderboard_json, self.sweep.leaderboard_csv, self.sweep.report):
            path.unlink()
        for path in (self.sweep.figures, self.sweep.inference):
            shutil.rmtree(path)

        def end_after_two(values: dict[str, Any]) -> None:
            if "metrics" in values and values["epoch"] == 2:
                raise Ended

        with pytest.raises(Ended):
            run_trial(TrialSpec.model_validate(read_json(under_way.spec)["spec"]), end_after_two)
        assert finished.result.exists()

    def _keep(self, state: str) -> None:
        for name in ("tiny", "cache"):
            shutil.copytree(self.storage / name, self.folder / state / name)

    def _list(self, state: str) -> dict[str, list[str]]:
        root = self.folder / state
        found: dict[str, list[str]] = {}
        for path in sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()):
            kind = next((kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, path)), None)
            if kind:
                found.setdefault(kind, []).append(path)
        return found

    def use_champion(self) -> Any:
        """What the champion says of some texts."""
        return [prediction.probabilities for prediction in predict(load_classifier(str(self.sweep.root)), TEXTS)]


class _User:
    """Someone with a damaged sweep."""

    def __init__(self, damaged: Damaged, case: Case, verdict: Verdict) -> None:
        self.damaged, self.case, self.verdict = damaged, case, verdict
        self.sweep = damaged.sweep

    def reads_the_report(self) -> None:
        found = self._try("report", lambda: _report(self.sweep))
        if found is None or self.case.sweep == "interrupted":
            return
        said, unfinished = found
        # A page may lack what is gone where it says so: a trial has not ended, a text or a cost is not there.
        says_so = unfinished or "prepared data is not where it was" in said or self.case.kind == "inference"
        if said != self.damaged.report and not (self.case.harm == "delete" and says_so):
            self.verdict.wrong.append("the report has changed without a word")

    def uses_the_champion(self) -> None:
        found = self._try("predict", self.damaged.use_champion)
        if found is not None and found != self.damaged.champion:
            self.verdict.wrong.append("the champion predicts something else")
        destination = self.damaged.folder / "exported"
        shutil.rmtree(destination, ignore_errors=True)
        self._try("export", lambda: export(str(self.sweep.root), destination))

    def uses_the_baseline(self) -> None:
        folder = (self.damaged.storage / self.case.path).parent
        found = self._try("predict by baseline", lambda: self.damaged.use_baseline(folder.name))
        if found is not None and found != self.damaged.baselines[folder.name]:
            self.verdict.wrong.append("the baseline predicts something else")

    def runs_the_sweep_again(self) -> None:
        before = self._records()
        found = self._try("sweep", lambda: local_cluster.sweep(self.damaged.folder))
        if found is None:
            return
        outcome, _ = found
        if self.damaged.leaderboard() != self.damaged.expected:
            self.verdict.wrong.append("the leaderboard has changed")
        if outcome.exit_code:
            self.verdict.wrong.append(f"the sweep ended with {outcome.exit_code}")
        after = self._records()
        if self.case.sweep == "finished" and not outcome.already_finished:
            self.verdict.words.add("redone")
        if any(after.get(path) != content for path, content in before.items()):
            self.verdict.words.add("redone")
        if self._try("report after it", lambda: _report(self.sweep)) is None:
            self.verdict.wrong.append("the same command again does not mend the report")
        # A hash is read where a checkpoint is used; a sweep that has ended uses none.
        if self.case.kind != "checkpoint" and self._try("predict after it", self.damaged.use_champion) is None:
            self.verdict.wrong.append("the same command again does not mend the champion")

    def _records(self) -> dict[str, bytes]:
        """What trials and baselines have left, and what was measured; it changes only where something is done again."""
        patterns = ("trials/*/epoch-*.json", "trials/*/result.json", "baselines/*/result.json", "inference/*.json")
        return {str(path): path.read_bytes() for pattern in patterns for path in self.sweep.root.glob(pattern)}

    def _try(self, what: str, step: Callable[[], Any]) -> Any:
        """What a step gives, or None where it ends in a typed error, which must name the damaged file."""
        try:
            return step()
        except FleetuneError as error:
            self.verdict.words.add("detected")
            damaged = self.damaged.storage / self.case.path
            if not any(str(path) in str(error) for path in (damaged, damaged.parent)):
                self.verdict.wrong.append(f"{what}: the error does not name the file: {error}")
        except Exception as error:  # noqa: BLE001 - whatever would be a traceback on the screen
            self.verdict.wrong.append(f"{what}: {type(error).__module__}.{type(error).__name__}: {error}")
        return None


def _report(sweep: SweepDirectory) -> tuple[str, str]:
    """All that the report says, figures as their data, and what it says is missing."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "block_rates",
            "confusion_matrix",
            "coverage",
            "curves",
            "dots",
            "learning_rate",
            "panels",
            "reliability",
            "scatter",
            "schedules",
        ):
            patch.setattr(figures, name, lambda *_, **__: None)
        found = content.read(sweep)
        sections = [section for make in SECTIONS if (section := make(found)) is not None]
    said = [dataclasses.asdict(section) for section in sections] + [found.headline and found.headline.sentences]
    return repr(said), _progress(found)


def _truncate(path: Path, chance: np.random.Generator) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(chance.integers(0, max(1, len(content))))])


def _flip(path: Path, chance: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[int(chance.integers(0, len(content)))] ^= 1 << int(chance.integers(0, 8))
    path.write_bytes(content)


def _zero(path: Path, chance: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    length = min(len(content), int(chance.integers(1, 512)))
    start = int(chance.integers(0, len(content) - length + 1))
    content[start : start + length] = bytes(length)
    path.write_bytes(content)


def _delete(path: Path, _: np.random.Generator) -> None:
    path.unlink()


HARMS: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "truncate": _truncate,
    "flip a bit of": _flip,
    "zero a block of": _zero,
    "delete": _delete,
}


@dataclass
class Tally:
    """Verdicts by kind of file."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, case: Case, verdict: Verdict) -> None:
        self.counts.setdefault(case.kind, Counter()).update(verdict.words | {"cases"})
        self.wrong += [f"{case}: {each}" for each in verdict.wrong]

    def lines(self) -> Iterator[str]:
        words = ("cases", "detected", "redone", "harmless")
        yield f"{'kind of file':22}" + "".join(f"{word:>10}" for word in words)
        for kind, counts in self.counts.items():
            yield f"{kind:22}" + "".join(f"{counts[word]:>10}" for word in words)


def suffer(damaged: Damaged, seed: int, count: int, kinds: Collection[str]) -> Tally:
    """Many cases, one after the other."""
    tally = Tally()
    for number in range(count):
        case = damaged.case(seed, number, kinds)
        tally.add(case, damaged.suffer(case, seed))
    return tally
