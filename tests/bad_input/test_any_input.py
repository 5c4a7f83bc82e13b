"""Whatever a sweep file or a table holds, it comes to a plan or to an error that says what is wrong.

A few examples of each kind, always the same; `make fuzz` tries thousands of new ones (FUZZ_EXAMPLES says how many).
"""

from __future__ import annotations

import contextlib
import gzip
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.bad_input.guard import Guard
from tests.bad_input.odd import ODD, OVERRIDES, SOUND, configs, csv_bytes, edited, json_bytes
from tests.bad_input.rows import Row, before_ray
from tests.tiny import tiny_model
from tests.tiny_data import reviews, reviews_csv
from trainables.errors import BadInput, InfrastructureError

_EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
# Much is tried that a strategy would call slow or large; the default is a matter of seconds.
few = settings(
    max_examples=int(_EXAMPLES or 30),
    derandomize=_EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Sandbox:
    """A folder with a model and reviews, and the guard that keeps writes in it."""

    root: Path
    guard: Guard

    def outcome(self, sweep: str, sets: Sequence[str] = (), **files: bytes) -> str:
        """What comes of a sweep file: a plan, or the kind of its error; any other exception goes on."""
        with tempfile.TemporaryDirectory(dir=self.root) as folder, contextlib.chdir(folder):
            for name in ("bert", "reviews.csv"):
                Path(name).symlink_to(self.root / name)
            Path("sweep.yaml").write_text(sweep, encoding="utf-8", newline="")
            for name, content in files.items():
                Path(name.replace("_", ".")).write_bytes(content)
            self.guard.seen.clear()
            with self.guard.on_duty():
                found = self._outcome(tuple(sets))
        assert self.guard.seen == []
        return found

    def _outcome(self, sets: tuple[str, ...]) -> str:
        try:
            prepared, printed = before_ray(Row("0", "anything", sets))
        except (BadInput, InfrastructureError) as error:
            assert str(error).strip()
            return type(error).__name__
        assert prepared.plan("fp32")
        assert sum(prepared.data.rows.values()) > 0
        assert "\x1b" not in printed
        return "plan"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Without the Hub, and with its caches in the sandbox."""
    import datasets.config
    import huggingface_hub.constants

    root = tmp_path_factory.mktemp("sandbox")
    tiny_model("bert", root / "bert")
    reviews_csv(root / "reviews.csv", 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root / "hub"))
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        for name in ("HF_DATASETS_CACHE", "HF_MODULES_CACHE", "DOWNLOADED_DATASETS_PATH", "EXTRACTED_DATASETS_PATH"):
            patch.setattr(datasets.config, name, root / "datasets" / name)
        patch.setenv("HOME", str(root))
        yield Sandbox(root, Guard(root))


def on(path: str) -> str:
    """A small sweep of some data."""
    small = {"name": "tiny", "data": {"path": path}, "search": {"space": [{"model": "./bert"}]}}
    return yaml.safe_dump({**small, "training": {"max_length": 16}})


def test_the_sound_config_comes_to_a_plan(sandbox: Sandbox) -> None:
    assert sandbox.outcome(yaml.safe_dump(SOUND)) == "plan"


def test_a_write_elsewhere_is_refused_and_noticed(sandbox: Sandbox, tmp_path: Path) -> None:
    with sandbox.guard.on_duty(), pytest.raises(PermissionError):
        (tmp_path / "x").write_text("x")
    with sandbox.guard.on_duty(), pytest.raises(PermissionError):
        (tmp_path / "y").mkdir()
    assert len(sandbox.guard.seen) == 2
    sandbox.guard.seen.clear()


@few
@given(configs())
def test_any_config_comes_to_a_plan_or_a_typed_error(sandbox: Sandbox, config: dict) -> None:
    event(sandbox.outcome(yaml.safe_dump(config, allow_unicode=True, sort_keys=False)))


@few
@given(edited(yaml.safe_dump(SOUND, sort_keys=False)))
def test_any_text_comes_to_a_plan_or_a_typed_error(sandbox: Sandbox, text: str) -> None:
    # what is edited may lead away: such a text is left out
    if not any(away in text for away in ("storage: /", "storage: ~", "path: /", "path: ~", "..")):
        event(sandbox.outcome(text))


@few
@given(OVERRIDES)
def test_any_override_comes_to_a_plan_or_a_typed_error(sandbox: Sandbox, sets: list[str]) -> None:
    event(sandbox.outcome(yaml.safe_dump(SOUND), sets))


@few
@given(csv_bytes() | st.binary(max_size=60), st.sampled_from(["data_csv", "data_tsv", "data_csv_gz"]))
def test_any_csv_comes_to_a_plan_or_a_typed_error(sandbox: Sandbox, content: bytes, name: str) -> None:
    packed = gzip.compress(content) if name.endswith("gz") else content
    event(sandbox.outcome(on(name.replace("_", ".")), **{name: packed}))


@few
@given(json_bytes() | st.binary(max_size=60), st.sampled_from(["data_jsonl", "data_json"]))
def test_any_json_comes_to_a_plan_or_a_typed_error(sandbox: Sandbox, content: bytes, name: str) -> None:
    event(sandbox.outcome(on(name.replace("_", ".")), **{name: content}))


_FLIPS = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=2)


@few
@given(st.none() | st.lists(ODD, min_size=1, max_size=3), _FLIPS)
def test_any_parquet_comes_to_a_plan_or_a_typed_error(
    sandbox: Sandbox, values: list[object] | None, flips: list[tuple[float, int]]
) -> None:
    """`values` are repeated as texts, None are sound ones; a flip is a place in the file and the bits to turn there."""
    texts = reviews(60)[0] if values is None else values * 20
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(pa.table({"text": texts, "label": (["x", "y", "z"] * 20)[: len(texts)]}), sink)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError):
        return  # no file holds these values
    content = bytearray(sink.getvalue().to_pybytes())
    for place, bits in flips:
        content[int(place * (len(content) - 1))] ^= bits
    event(sandbox.outcome(on("data.parquet"), data_parquet=bytes(content)))
