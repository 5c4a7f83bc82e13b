"""Which columns of a table hold the text, the label and the split, where nobody has said so.

A column's name counts first, its values after that. Where two columns are equally likely nothing is guessed: the
error names them and the option that says which.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.errors import BadInput
from workflows.data.formats import Columns
from workflows.data.labels import MAX_CLASSES, as_text, shown
from workflows.data.sources import ALIASES

if TYPE_CHECKING:
    import pandas as pd

TEXT_NAMES = (
    *("text", "sentence", "review", "content", "body", "message", "comment", "tweet", "post", "document"),
    *("description", "utterance", "headline", "question", "abstract", "summary", "title"),
)
PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question", "sentence"),
)
LABEL_NAMES = (
    *("label", "labels", "category", "class", "target", "sentiment", "stars", "rating", "topic", "intent", "emotion"),
    *("polarity", "genre", "tag", "annotation", "score"),
)
SPLIT_NAMES = ("split", "subset", "set", "partition", "dataset_split")
_SAMPLE = 20_000
_FEW_CLASSES = 50
# A column whose texts are nearly as long as the longest is as likely to be the one.
_NEARLY = 0.8
_NUMBER = re.compile(r"\s*[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?\s*")


@dataclass(frozen=True)
class EveryColumn(Columns):
    """All columns of a source that a setting could name: each name once, and valid Unicode."""

    def pick(self, found: Iterable[str], where: str) -> list[str]:
        """Also raise BadInput for a required column that is missing or there twice."""
        names = [str(name) for name in found]
        super().pick(names, where)
        return [name for name in names if names.count(name) == 1 and _is_unicode(name)]


@dataclass(frozen=True)
class Guess:
    """The columns to use, and why: `reasons` has a sentence per setting, `others` are the columns left over."""

    text: tuple[str, ...]
    pair: str | None
    label: str
    split: str | None
    reasons: Mapping[str, str]
    others: tuple[str, ...]


@dataclass(frozen=True)
class _Profile:
    """What the values of one column look like. `average` is the mean length in characters, `words` in words."""

    rows: int
    distinct: int
    average: float
    words: float
    numeric: float
    fractional: bool

    @property
    def is_text(self) -> bool:
        return self.average > 0 and self.numeric < 0.9

    @property
    def is_label(self) -> bool:
        return 2 <= self.distinct <= min(MAX_CLASSES, self.rows / 2)


def guess_columns(frame: pd.DataFrame, where: str, text: tuple[str, ...], label: str | None, has_splits: bool) -> Guess:
    """Guess what `text` and `label` do not say. `has_splits`: the source itself names splits, so no column does.

    Raises BadInput naming the columns and the option to use where a guess is impossible or ambiguous.
    """
    # drawn at random: evenly spaced rows of a file in which classes take turns would all be of one class
    sample = frame.sample(min(len(frame), _SAMPLE), random_state=0)
    values = {str(name): _text_of(sample[name]) for name in frame.columns}
    known = {name: column for name, column in values.items() if column is not None}
    profiles = {name: _profile(column) for name, column in known.items()}
    split = None if has_splits else _split(known, {*text, label})
    found, pair, why_text = (text, None, "as given") if text else _text(profiles, {label, split}, where)
    used = {*found, pair, split}
    found_label, why_label = (label, "as given") if label else _label(profiles, used, where)
    if found_label in found:
        raise BadInput(f"{where}: '{found_label}' cannot be both the text and the label; set --text-column")
    others = tuple(str(name) for name in frame.columns if name not in {*used, found_label})
    return Guess(found, pair, found_label, split, {"text": why_text, "label": why_label}, others)


def _text(
    profiles: Mapping[str, _Profile], taken: Collection[str | None], where: str
) -> tuple[tuple[str, ...], str | None, str]:
    """Text columns, the column of second sentences, and why: by name, else by the longest average text."""
    usable = {name: profile for name, profile in profiles.items() if profile.is_text and name not in taken}
    by_key = {_key(name): name for name in usable}
    for first, second in PAIRS:
        if first in by_key and second in by_key:
            return (by_key[first],), by_key[second], "a pair of sentences, by their names"
    if named := _named(usable, TEXT_NAMES):
        _refuse_equal(named, "text", where)
        return (named[0],), None, "by its name"
    unlabelled = {name: profile for name, profile in usable.items() if _key(name) not in LABEL_NAMES}
    pools = (
        {name: profile for name, profile in unlabelled.items() if _has_word(name, TEXT_NAMES) and profile.words >= 2},
        {name: profile for name, profile in unlabelled.items() if profile.words >= 2},
        unlabelled,
    )
    pool = next(filter(None, pools), {})
    ranked = sorted(pool, key=lambda name: -pool[name].average)
    likely = [name for name in ranked if pool[name].average >= _NEARLY * pool[ranked[0]].average]
    if len(likely) != 1:
        raise _undecided("text", likely, profiles, where)
    return (likely[0],), None, f"its texts are the longest, {pool[likely[0]].average:.0f} characters on average"


def _label(profiles: Mapping[str, _Profile], taken: Collection[str | None], where: str) -> tuple[str, str]:
    """The label column and why: by name, else the only column of few distinct values."""
    usable = {name: profile for name, profile in profiles.items() if profile.is_label and name not in taken}
    if named := _named(usable, LABEL_NAMES):
        _refuse_equal(named, "label", where)
        more = f"; {shown(named[1:])} could be one too" if len(named) > 1 else ""
        return named[0], f"by its name{more}"
    likely = [name for name in usable if _has_word(name, LABEL_NAMES)]
    likely = likely or [name for name, profile in usable.items() if _has_few_values(name, profile)]
    if len(likely) != 1:
        raise _undecided("label", likely, profiles, where)
    return likely[0], f"it has {usable[likely[0]].distinct} distinct values"


def _split(values: Mapping[str, pd.Series], taken: Collection[str | None]) -> str | None:
    """A column that says which rows are train, validation and test, by its name and values."""
    for name, column in values.items():
        if _key(name) in SPLIT_NAMES and name not in taken:
            found = set(column.unique())
            if "train" in found and found <= set(ALIASES):
                return name
    return None


def _named(usable: Iterable[str], names: Sequence[str]) -> list[str]:
    """Columns that carry one of the usual names, in the order of those names."""
    return sorted((name for name in usable if _key(name) in names), key=lambda name: names.index(_key(name)))


def _refuse_equal(named: list[str], what: str, where: str) -> None:
    """`Text` and `text` in one table: the name does not decide."""
    equal = [name for name in named if _key(name) == _key(named[0])]
    if len(equal) > 1:
        raise _undecided(what, equal, named, where)


def _undecided(what: str, likely: list[str], columns: Iterable[str], where: str) -> BadInput:
    # repr, because what a table calls its columns must not move the cursor
    found, equal = shown(map(repr, columns)), shown(map(repr, likely))
    why = f"{equal} are equally likely" if likely else f"none looks like one (found: {found})"
    return BadInput(f"{where}: the {what} column cannot be guessed: {why}; say which it is with --{what}-column")


def _text_of(values: pd.Series) -> pd.Series | None:
    """Values as text without the missing ones; None for a column of lists, objects or nothing."""
    try:
        text = as_text(values, "").dropna()
    except BadInput:
        return None
    return text if len(text) else None


def _profile(text: pd.Series) -> _Profile:
    number = text.map(lambda value: _NUMBER.fullmatch(value) is not None)
    return _Profile(
        rows=len(text),
        distinct=int(text[text.str.strip() != ""].nunique()),
        average=float(text.str.strip().str.len().mean()),
        words=float(text.map(lambda value: len(value.split())).mean()),
        numeric=float(number.mean()),
        fractional=bool(text[number].str.contains(r"[.,]\d*[1-9]", regex=True).any()),
    )


def _has_few_values(name: str, profile: _Profile) -> bool:
    is_id = {"id", "idx", "index", "uuid"} & set(_words(name))
    return not is_id and not profile.fractional and profile.distinct <= min(_FEW_CLASSES, profile.rows / 4)


def _has_word(name: str, words: Collection[str]) -> bool:
    return any(word in words for word in _words(name))


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def _key(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _is_unicode(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)
