"""Near duplicates across splits, by MinHash and locality-sensitive hashing (datasketch, an optional extra).

Broder 1997, "On the resemblance and containment of documents": texts are compared as sets of runs of five characters.
What LSH proposes is compared exactly, so each pair that is reported is as alike as is said.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trainables.errors import BadInput
from trainables.records import Split
from workflows.audit.facts import Facts
from workflows.audit.finding import EXAMPLES, NEAR_DUPLICATES, Finding, part
from workflows.data.dataset import LabelledData
from workflows.data.splits import normalised

if TYPE_CHECKING:
    import pandas as pd

# Of all runs of characters that two texts have, the share that both must have (Jaccard).
ALIKE = 0.7
_RUN = 5
_PERMUTATIONS = 128
_CHUNK = 2_000
INSTALL = "pip install 'fleetune[near-duplicates]'"


def refuse_missing() -> None:
    """Raise BadInput where datasketch is not installed."""
    if importlib.util.find_spec("datasketch") is None:
        raise BadInput(f"check.near_duplicates needs datasketch, which is not installed: {INSTALL}")


def near_duplicates(facts: Facts, data: LabelledData) -> Iterator[Finding]:
    """Texts of validation and test that are nearly, but not after normalisation, those of a row of train.

    Takes a fraction of a millisecond a short text, and holds the texts of train. Raises BadInput as `refuse_missing`.
    """
    refuse_missing()
    from datasketch import MinHashLSH

    # What LSH proposes in vain costs a comparison, what it misses is missed.
    index = MinHashLSH(threshold=ALIKE, num_perm=_PERMUTATIONS, weights=(0.1, 0.9))
    trained: dict[int, str] = {}
    for row, text, sketch in _sketched(facts, data, "train"):
        index.insert(row, sketch)
        trained[row] = text
    known = set(trained.values())
    for split in ("validation", "test"):
        found: list[tuple[int, int]] = []
        for row, text, sketch in _sketched(facts, data, split):
            if text not in known and (twin := _nearest(text, index.query(sketch), trained)) is not None:
                found.append((row, twin))
        if found:
            yield _finding(split, found, len(facts.splits[split]))


def _finding(split: Split, found: list[tuple[int, int]], rows: int) -> Finding:
    count = len(found)
    return Finding(
        name=NEAR_DUPLICATES,
        grade="warning",
        count=count,
        share=count / rows,
        splits=(split, "train"),
        rows=tuple(row for row, _ in found[:EXAMPLES]),
        twins=tuple(twin for _, twin in found[:EXAMPLES]),
        message=f"rows of {split} that are nearly one of train: {part(count, rows)}, "
        f"with at least {100 * ALIKE:.0f} % of their runs of {_RUN} characters in common",
        remedy="look at the pairs; where they are one text, remove them from train or give them one data.group_column",
    )


def _nearest(text: str, candidates: list[int], trained: dict[int, str]) -> int | None:
    """The most alike of the candidates, where it is alike enough."""
    mine = _runs(text)
    alike = {row: len(mine & theirs) / len(mine | theirs) for row in candidates if (theirs := _runs(trained[row]))}
    best = max(alike, key=lambda row: (alike[row], -row), default=None)
    return best if best is not None and alike[best] >= ALIKE else None


def _sketched(facts: Facts, data: LabelledData, split: Split) -> Iterator[tuple[int, str, Any]]:
    """Row, normalised text and MinHash of each text that says something."""
    import pyarrow.parquet as pq
    from datasketch import MinHash

    done, here = 0, facts.splits[split]
    for batch in pq.ParquetFile(data.directory / f"{split}.parquet").iter_batches(_CHUNK):
        keys = _keys(batch.to_pandas())
        speaking = here.speaking[done : done + len(keys)]
        rows = here.rows[done : done + len(keys)]
        done += len(keys)
        kept = [(int(row), key) for row, key, says in zip(rows, keys, speaking, strict=True) if says]
        runs = [[run.encode() for run in sorted(_runs(key))] for _, key in kept]
        for (row, key), sketch in zip(kept, MinHash.bulk(runs, num_perm=_PERMUTATIONS, seed=1), strict=True):
            yield row, key, sketch


def _keys(chunk: pd.DataFrame) -> list[str]:
    return normalised(chunk["text"], chunk["text_pair"] if chunk["text_pair"].notna().any() else None)


def _runs(text: str) -> set[str]:
    """All runs of five characters of a text; a shorter one is its own only run."""
    return {text[start : start + _RUN] for start in range(max(1, len(text) - _RUN + 1))}
