"""Findings about tokens: what max_length cuts off, and what a tokenizer does not know.

The tokens are those that the trials read: whoever comes first makes them, so a check costs no second tokenisation.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from trainables.arguments import ModelSpec, TrainingArguments, TrialSpec
from trainables.directory import CacheDirectory
from trainables.records import SPLITS, Split
from workflows.audit.facts import quantiles
from workflows.audit.finding import EXAMPLES, Finding, TokenFigures, part
from workflows.data.dataset import LabelledData

if TYPE_CHECKING:
    import numpy as np

    from trainables.tokens import TokenSplit

# Above these shares, cutting and unknown tokens are likely to cost accuracy.
MANY_CUT, MANY_TOKENS_CUT, MANY_UNKNOWN = 0.2, 0.1, 0.01
_CHUNK = 10_000_000


def truncated(figures: TokenFigures) -> Iterator[Finding]:
    """Texts that are longer than max_length under a tokenizer: their ends are never seen."""
    if figures.texts_cut:
        share, tokens = figures.texts_cut / figures.texts, figures.tokens_cut / figures.tokens
        middle, most, longest = figures.lengths
        yield Finding(
            name="truncated",
            grade="warning" if share > MANY_CUT or tokens > MANY_TOKENS_CUT else "note",
            count=figures.texts_cut,
            share=share,
            splits=SPLITS,
            rows=figures.rows_cut,
            message=f"texts that {figures.model} cuts at max_length {figures.max_length}: "
            f"{part(figures.texts_cut, figures.texts)}, with {100 * tokens:.1f} % of all tokens; half of the texts "
            f"have at most {middle:,}, 95 % at most {most:,}, the longest has {longest:,}",
            remedy="raise training.max_length, or try several as an axis; what is cut plays no part",
        )


def unknown_tokens(figures: TokenFigures) -> Iterator[Finding]:
    """Tokens that a tokenizer has no piece for: letters or signs that the model has never seen."""
    if figures.unknown:
        seen = figures.tokens - figures.tokens_cut
        share = figures.unknown / seen
        yield Finding(
            name="unknown_tokens",
            grade="warning" if share > MANY_UNKNOWN else "note",
            count=figures.unknown,
            share=share,
            splits=SPLITS,
            rows=figures.rows_unknown,
            message=f"tokens that {figures.model} does not know: {part(figures.unknown, seen)}, in "
            f"{part(figures.texts_unknown, figures.texts)} texts",
            remedy="take a model of the texts' language and script; for signs such as emoji, one with a byte-level "
            "tokenizer",
        )


def measure(
    data: LabelledData, cache: CacheDirectory, models: Iterable[tuple[ModelSpec, int]], patience: float = -1
) -> list[TokenFigures]:
    """Look at the tokens of each (model, max_length), which are made where there are none.

    `patience` is how many seconds to wait for another process that is making the same ones, negative for ever; what
    is not there by then is left out.
    """
    from filelock import Timeout

    # Set to what it is anyway, it keeps the library from a warning whenever Ray starts a process after this.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    found = []
    for model, max_length in models:
        try:
            found.append(_measure(_spec(data, cache, model, max_length), patience))
        except Timeout:
            continue
    return found


def distinct(models: Iterable[tuple[ModelSpec, int]]) -> list[tuple[ModelSpec, int]]:
    """One model of each tokenizer and max_length, in order."""
    first: dict[tuple[str, int], tuple[ModelSpec, int]] = {}
    for model, max_length in models:
        first.setdefault((model.tokenizer_sha256, max_length), (model, max_length))
    return list(first.values())


def _measure(spec: TrialSpec, patience: float) -> TokenFigures:
    import numpy as np

    from trainables import models, tokens

    with models.quiet():
        splits = tokens.tokenize(spec, patience)
        unknown_id = tokens.unknown_id(spec)
    lengths = np.concatenate([found.lengths + found.tokens_cut for found in splits.values()])
    cut = {split: np.asarray(found.tokens_cut) for split, found in splits.items()}
    unknown = {split: _unknown(found, unknown_id) for split, found in splits.items()}
    return TokenFigures(
        model=spec.model.name,
        max_length=spec.training.max_length,
        tokenizer_sha256=spec.model.tokenizer_sha256,
        texts=len(lengths),
        texts_cut=_count(cut.values()),
        rows_cut=_examples(splits, cut),
        tokens=int(lengths.sum()),
        tokens_cut=int(sum(counts.sum() for counts in cut.values())),
        unknown=int(sum(counts.sum() for counts in unknown.values())),
        texts_unknown=_count(unknown.values()),
        rows_unknown=_examples(splits, unknown),
        lengths=quantiles(lengths),
    )


def _unknown(found: TokenSplit, unknown_id: int | None) -> np.ndarray:
    """How many unknown tokens each text has, int64; a few million tokens are looked at at a time."""
    import numpy as np

    places = [np.zeros(0, np.int64)]
    if unknown_id is not None:
        for start in range(0, len(found.input_ids), _CHUNK):
            places.append(np.flatnonzero(found.input_ids[start : start + _CHUNK] == unknown_id) + start)
    texts = np.searchsorted(found.offsets, np.concatenate(places), side="right") - 1
    return np.bincount(texts, minlength=len(found))


def _count(parts: Iterable[np.ndarray]) -> int:
    return sum(int((counts > 0).sum()) for counts in parts)


def _examples(splits: dict[Split, TokenSplit], counts: dict[Split, np.ndarray]) -> tuple[int, ...]:
    """Numbers in the source of the first texts that have any."""
    rows: list[int] = []
    for split, found in splits.items():
        rows.extend(found.rows[counts[split] > 0][:EXAMPLES].tolist())
    return tuple(rows[:EXAMPLES])


def _spec(data: LabelledData, cache: CacheDirectory, model: ModelSpec, max_length: int) -> TrialSpec:
    """As much of a trial as its tokens depend on."""
    return TrialSpec(
        trial_id="check",
        point_id="check",
        seed=0,
        model=model,
        freeze="full",
        training=TrainingArguments(max_length=max_length),
        labels=data.labels,
        precision="fp32",
        data=str(data.directory),
        data_fingerprint=data.fingerprint,
        cache=str(cache.root),
        directory="",
    )
