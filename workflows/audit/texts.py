"""Findings about texts: copies within a split and across splits, copies with other labels, texts that say nothing.

Blank and placeholder texts are findings of their own and are not compared. Two texts are equal after normalisation
where they differ in case, in spaces or in how Unicode writes the same letters (`workflows.data.splits.normalised`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from trainables.records import Split
from workflows.audit.facts import Facts, SplitFacts
from workflows.audit.finding import EXAMPLES, Finding, Grade, part

if TYPE_CHECKING:
    import numpy as np

# Above this share of test, what is measured there is memory.
LEAK = 0.05
# Above this share of a split, its copies weigh on what is learned or measured.
_MANY_COPIES = 0.05
# Which split may share no text with which other one.
_APART: tuple[tuple[Split, Split], ...] = (("test", "train"), ("validation", "train"), ("validation", "test"))
_DROP = "check.drop_overlap: true takes such rows out of train"
_BY_HAND = "remove them from one of the two (check.drop_overlap does where validation is cut from train)"
# What is compared: texts as they are, or as normalised.
Kind = Literal["exact", "key"]
_BUT_FOR: dict[Kind, str] = {"exact": "", "key": ", but for case, spaces or Unicode forms"}


def overlap(facts: Facts) -> Iterator[Finding]:
    """Texts of a split that stand, letter for letter, in another one."""
    for split, other in _APART:
        here, there = facts.splits[split], facts.splits[other]
        shared = here.speaking & _among(here.exact, there.exact)
        if shared.any():
            share = float(shared.mean())
            grade: Grade = "error" if (split, other) == ("test", "train") and share > LEAK else "warning"
            yield _shared("overlap", grade, split, other, shared, here, there, "exact")


def normalised_overlap(facts: Facts) -> Iterator[Finding]:
    """Texts of a split that stand in another one but for case, spaces and how Unicode writes them."""
    for split, other in _APART:
        here, there = facts.splits[split], facts.splits[other]
        shared = here.speaking & _among(here.key, there.key) & ~_among(here.exact, there.exact)
        if shared.any():
            yield _shared("normalised_overlap", "warning", split, other, shared, here, there, "key")


def duplicates(facts: Facts) -> Iterator[Finding]:
    """Rows that repeat an earlier one of their split, letter for letter."""
    for split, here in facts.splits.items():
        yield from _repeated("duplicates", split, here, _repeats(here, "exact"), "exact")


def normalised_duplicates(facts: Facts) -> Iterator[Finding]:
    """Rows that repeat an earlier one of their split but for case, spaces and how Unicode writes them."""
    for split, here in facts.splits.items():
        repeated = _repeats(here, "key") & ~_repeats(here, "exact")
        yield from _repeated("normalised_duplicates", split, here, repeated, "key")


def conflicting_labels(facts: Facts) -> Iterator[Finding]:
    """Texts, equal after normalisation, that carry several labels: nobody can be right on all of them."""
    import pandas as pd

    torn = _torn(facts)
    if not len(torn):
        return
    parts = []
    for split, here in facts.splits.items():
        chosen = here.speaking & _among(here.key, torn)
        parts.append(pd.DataFrame({"key": here.key[chosen], "row": here.rows[chosen], "split": split}))
    found = pd.concat(parts, ignore_index=True)
    # the rows of one text beside each other, so that the examples show pairs
    shown = found.sort_values(["key", "row"], kind="stable")["row"][:EXAMPLES]
    yield Finding(
        name="conflicting_labels",
        grade="warning",
        count=len(found),
        share=len(found) / sum(map(len, facts.splits.values())),
        splits=tuple(split for split in facts.splits if (found["split"] == split).any()),
        rows=tuple(shown.tolist()),
        message=f"texts with several labels: {len(torn):,}, in {len(found):,} rows",
        remedy="decide on one label for each text, or remove those rows",
    )


def _torn(facts: Facts) -> np.ndarray:
    """The hashes of normalised texts that have several labels."""
    import numpy as np
    import pandas as pd

    said = [(here.key[here.speaking], here.labels[here.speaking]) for here in facts.splits.values()]
    keys, labels = (np.concatenate(part) for part in zip(*said, strict=True))
    pairs = pd.DataFrame({"key": keys, "label": labels}).drop_duplicates()["key"].to_numpy()
    return np.unique(pairs[pd.Series(pairs).duplicated()])


def blank_texts(facts: Facts) -> Iterator[Finding]:
    """Texts that are empty, of white space or of characters that nobody sees."""
    yield from _mute(facts, "blank_texts", "blank", "blank texts")


def placeholder_texts(facts: Facts) -> Iterator[Finding]:
    """Texts such as `n/a`, `null`, `[deleted]`, which stand where there was none."""
    yield from _mute(
        facts, "placeholder_texts", "placeholder", "placeholders (n/a, null, [deleted], …) instead of texts"
    )


def _mute(facts: Facts, name: str, kind: str, told: str) -> Iterator[Finding]:
    for split, here in facts.splits.items():
        chosen = getattr(here, kind)
        if count := int(chosen.sum()):
            yield Finding(
                name=name,
                grade="warning",
                count=count,
                share=count / len(here),
                splits=(split,),
                rows=here.examples(chosen),
                message=f"{told} in {split}: {part(count, len(here))}",
                remedy="fill them or remove those rows",
            )


def _shared(
    name: str,
    grade: Grade,
    split: Split,
    other: Split,
    shared: np.ndarray,
    here: SplitFacts,
    there: SplitFacts,
    kind: Kind,
) -> Finding:
    count = int(shared.sum())
    return Finding(
        name=name,
        grade=grade,
        count=count,
        share=count / len(here),
        splits=(split, other),
        rows=here.examples(shared),
        twins=_first(here, shared, there, kind),
        message=f"rows of {split} that stand in {other} too{_BUT_FOR[kind]}: {part(count, len(here))}",
        remedy=_DROP if other == "train" else _BY_HAND,
    )


def _repeated(name: str, split: Split, here: SplitFacts, repeated: np.ndarray, kind: Kind) -> Iterator[Finding]:
    if count := int(repeated.sum()):
        share = count / len(here)
        yield Finding(
            name=name,
            grade="warning" if share > _MANY_COPIES else "note",
            count=count,
            share=share,
            splits=(split,),
            rows=here.examples(repeated),
            twins=_first(here, repeated, here, kind),
            message=f"rows of {split} that repeat an earlier one{_BUT_FOR[kind]}: {part(count, len(here))}",
            remedy="remove them where they are no texts of their own: each copy counts again",
        )


def _repeats(here: SplitFacts, kind: Kind) -> np.ndarray:
    """Which rows have an equal one before them."""
    import pandas as pd

    return pd.Series(getattr(here, kind)).duplicated().to_numpy() & here.speaking


def _first(here: SplitFacts, chosen: np.ndarray, there: SplitFacts, kind: Kind) -> tuple[int, ...]:
    """The numbers of the first rows of `there` that the examples of `chosen` are equal to."""
    import numpy as np

    hashes = getattr(there, kind)
    wanted = getattr(here, kind)[chosen][:EXAMPLES]
    return tuple(int(there.rows[np.flatnonzero(hashes == each)[0]]) for each in wanted)


def _among(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.isin(hashes, others)
