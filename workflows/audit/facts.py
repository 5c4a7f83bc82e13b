"""Prepared splits as a few numbers per row, so that a million texts are checked in 200 MB.

The texts themselves are read in chunks and let go: what is compared are 64-bit hashes of them, where two of a million
different texts are taken for equal once in some 40 million data sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from trainables.records import SPLITS, Split
from workflows.audit.finding import EXAMPLES, SplitFigures
from workflows.data.dataset import LabelledData
from workflows.data.splits import SEPARATOR, normalised

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_CHUNK = 50_000
# What exports, spreadsheets and forums write where there is no text; compared after normalisation.
PLACEHOLDERS = frozenset(
    [
        *("n/a", "#n/a", "na", "<na>", "nan", "nil", "null", "(null)", "<null>", "none", "(none)", "undefined"),
        *("missing", "not available", "no text", "no comment", "[deleted]", "[removed]", "[blank]", "[empty]"),
        *("(blank)", "(empty)", "<blank>", "<empty>", "tbd", "todo", "placeholder", "lorem ipsum"),
        *("#name?", "#ref!", "#value!", "#div/0!", "-", "--", "---", "?", "??", "???", ".", "..", "..."),
    ]
)


@dataclass(frozen=True)
class SplitFacts:
    """What is known of each row of a split: arrays of equal length, in the order of the source.

    `rows` are numbers in the source (int64), `labels` ids (int64), `exact` and `key` hashes of the text as it is and
    as normalised (uint64, both with the second text of a pair), `characters` its length (int64). `blank` and
    `placeholder` mark texts that say nothing (bool); of a pair, one of its two is enough.
    """

    rows: np.ndarray
    labels: np.ndarray
    exact: np.ndarray
    key: np.ndarray
    characters: np.ndarray
    blank: np.ndarray
    placeholder: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def speaking(self) -> np.ndarray:
        """The rows whose texts say something: those that are worth comparing (bool)."""
        return ~(self.blank | self.placeholder)

    def examples(self, chosen: np.ndarray) -> tuple[int, ...]:
        """Numbers in the source of the first few chosen rows; `chosen` is a mask or positions."""
        return tuple(self.rows[chosen][:EXAMPLES].tolist())


@dataclass(frozen=True)
class Facts:
    """All splits, and the names of the classes."""

    labels: tuple[str, ...]
    splits: dict[Split, SplitFacts]

    def counts(self, split: Split) -> np.ndarray:
        """Rows of each class of a split: int64, shape (classes,)."""
        import numpy as np

        return np.bincount(self.splits[split].labels, minlength=len(self.labels))

    def figures(self) -> dict[str, SplitFigures]:
        """The splits in numbers."""
        return {
            split: SplitFigures(
                rows=len(facts),
                classes=dict(zip(self.labels, self.counts(split).tolist(), strict=True)),
                characters=quantiles(facts.characters),
            )
            for split, facts in self.splits.items()
        }


def read(data: LabelledData) -> Facts:
    """Read the prepared splits, a chunk at a time."""
    return Facts(data.labels, {split: _read_split(data, split) for split in SPLITS})


def quantiles(lengths: np.ndarray) -> tuple[int, int, int]:
    """The median, the 95th percentile and the largest of some lengths."""
    import numpy as np

    middle, most, longest = np.quantile(lengths, [0.5, 0.95, 1.0], method="higher") if len(lengths) else (0, 0, 0)
    return int(middle), int(most), int(longest)


def _read_split(data: LabelledData, split: Split) -> SplitFacts:
    import numpy as np
    import pyarrow.parquet as pq

    file = pq.ParquetFile(data.directory / f"{split}.parquet")
    chunks = [_facts(batch.to_pandas()) for batch in file.iter_batches(_CHUNK)]
    names = SplitFacts.__dataclass_fields__
    return SplitFacts(*(np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in names))


def _facts(chunk: pd.DataFrame) -> SplitFacts:
    import numpy as np

    texts, pairs = chunk["text"].tolist(), chunk["text_pair"]
    has_pairs = bool(pairs.notna().any())
    joined = [f"{text}{SEPARATOR}{pair}" for text, pair in zip(texts, pairs, strict=True)] if has_pairs else texts
    keys = normalised(chunk["text"], pairs if has_pairs else None)
    return SplitFacts(
        rows=chunk["row"].to_numpy("int64"),
        labels=chunk["label"].to_numpy("int64"),
        exact=_hashes(joined),
        key=_hashes(keys),
        characters=np.fromiter(map(len, joined), "int64", len(joined)) - has_pairs,
        blank=np.fromiter((any(map(_is_blank, key.split(SEPARATOR))) for key in keys), bool, len(keys)),
        placeholder=np.fromiter(
            (any(part in PLACEHOLDERS for part in key.split(SEPARATOR)) for key in keys), bool, len(keys)
        ),
    )


def _hashes(texts: list[str]) -> np.ndarray:
    """SipHash of each text (pandas.util.hash_array): uint64, the same in every process."""
    import numpy as np
    import pandas as pd

    values = np.empty(len(texts), dtype=object)
    values[:] = texts
    hashes: np.ndarray = pd.util.hash_array(values, categorize=False)
    return hashes


def _is_blank(text: str) -> bool:
    """Whether nothing of a normalised text can be seen: it is empty, or of zero-width and control characters alone."""
    return not any(map(str.isprintable, text.replace(" ", "")))
