"""A first sweep file for labelled text: `fleetune init reviews.csv`. The data decide what stands in it.

Columns are guessed, and the data are read, labelled and split as a sweep will do it, so what a sweep would refuse is
refused here. Nothing is downloaded but the data themselves, where they are on the Hub.
"""

from __future__ import annotations

import re
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from trainables import models
from trainables.arguments import Metric
from trainables.directory import CacheDirectory
from trainables.errors import BadInput
from trainables.files import write_text
from trainables.models import ModelDescription
from workflows.config import DataConfig
from workflows.data import dataset, packages
from workflows.data.dataset import LabelledData
from workflows.data.formats import extensions
from workflows.data.guess import EveryColumn, Guess, guess_columns
from workflows.data.labels import label_text
from workflows.data.sources import Request, Rows, load
from workflows.data.splits import normalised
from workflows.data.texts import text_frame
from workflows.draft_file import remark, sweep_file
from workflows.resolve import local_path
from workflows.spinner import phase

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# Positions that every supported model of the Hub has.
USUAL_POSITIONS = 512
_LENGTHS = (32, 64, 128, 256, 512)
_HELD_WHOLE = 0.95
_SAMPLE = 20_000
_CHUNK = 1_000
# Tokens per word of English under WordPiece, and the two tokens around a text.
_TOKENS_PER_WORD, _AROUND = 1.35, 2
# Chinese characters and Japanese kana have no spaces between words; tokenizers make about one token of each.
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
# A class needs a distinct text in train, validation and test.
_LEAST_TEXTS = 3
_SMALL_CLASS = 50


@dataclass(frozen=True)
class Wish:
    """What the user has said: a source, and what is not to be guessed."""

    source: str
    output: Path
    model: str
    text_columns: tuple[str, ...] = ()
    label_column: str | None = None
    force: bool = False


@dataclass(frozen=True)
class Lengths:
    """Lengths of train texts as (median, 95 %, longest); `tokens` are counted, or estimated from words."""

    tokens: tuple[int, int, int]
    words: tuple[int, int, int]
    characters: tuple[int, int, int]
    counted: bool
    max_length: int
    cut: float


@dataclass(frozen=True)
class Draft:
    """All that is known of the data and the model, and what follows from it for a sweep."""

    name: str
    data: DataConfig
    guess: Guess
    found: LabelledData
    left_out: dict[str, int]
    model: str
    about: ModelDescription | None
    lengths: Lengths

    @property
    def train(self) -> dict[str, int]:
        """Rows of each class in train."""
        return self.found.classes["train"]

    @property
    def imbalance(self) -> str | None:
        """Why accuracy would mislead; None where the classes are balanced enough."""
        counts = self.train.values()
        if max(counts) > 3 * min(counts):
            return f"the largest class has {max(counts) / min(counts):.1f} times the rows of the smallest"
        if max(counts) > 0.6 * sum(counts):
            return f"the largest class has {max(counts) / sum(counts):.0%} of the rows"
        return None

    @property
    def metric(self) -> Metric:
        return "f1_macro" if self.imbalance else "accuracy"

    @property
    def epochs(self) -> int:
        rows = self.found.rows["train"]
        return 4 if rows < 2_000 else 2 if rows > 50_000 else 3

    @property
    def batch_size(self) -> int:
        return 8 if self.lengths.max_length > 256 else 16

    @property
    def has_top_2(self) -> bool:
        """Whether the policy top-2 means something for the model, as far as the model is known."""
        return self.about is None or (self.about.num_hidden_layers > 2 and not self.about.shared_layers)


def write_draft(wish: Wish, console: Console) -> Draft:
    """Look at the data, write the sweep file and return what stands in it.

    Raises BadInput for an output that is there already, for columns that cannot be guessed, and for data or a local
    model that a sweep would refuse; then nothing is written.
    """
    _refuse_output(wish)
    folder = local_model(wish.model)
    about = models.describe(folder) if folder else None
    with phase(console, f"reading {remark(wish.source)}"):
        rows = load(Request(wish.source, _columns(wish)))
        guess = guess_columns(
            rows.frame, wish.source, wish.text_columns, wish.label_column, has_splits=rows.split is not None
        )
        left_out, data = _config(wish, rows, guess)
        with tempfile.TemporaryDirectory(prefix="fleetune-init-") as scratch:
            found = dataset.prepare(data, CacheDirectory(Path(scratch)))
            texts, pairs = _train_texts(found)
    with phase(console, "measuring the texts"):
        lengths = measure(texts, pairs, folder, about)
    draft = Draft(_name(wish.source), data, guess, found, left_out, wish.model, about, lengths)
    try:
        write_text(wish.output, sweep_file(draft))
    except OSError as error:
        raise BadInput(f"--output {wish.output}: cannot be written: {error.strerror}") from None
    return draft


def local_model(model: str) -> Path | None:
    """The folder of a model that is on this machine by name; None for a Hub id, which init does not download."""
    if packages.is_package_uri(model):
        return packages.locate(model)
    folder = local_path(model, "--model")
    if folder.is_dir():
        return folder
    if model.startswith((".", "/", "~")) or model.count("/") > 1 or not model.strip():
        raise BadInput(f"--model '{model}': no such folder; a model is a folder, a Hub id, or pkg://package/path")
    return None


def measure(texts: list[str], pairs: list[str] | None, folder: Path | None, about: ModelDescription | None) -> Lengths:
    """Lengths of texts (of pairs together), and the smallest usual max_length that holds 95 % of them whole.

    Tokens are counted with the tokenizer in `folder`, else estimated from words. At most 20,000 texts, drawn at random,
    are looked at.
    """
    import numpy as np

    chosen_rows = np.random.RandomState(0).permutation(len(texts))[:_SAMPLE]
    texts, pairs = [texts[row] for row in chosen_rows], [pairs[row] for row in chosen_rows] if pairs else None
    joined = texts if pairs is None else [f"{text} {pair}" for text, pair in zip(texts, pairs, strict=True)]
    words = [len(text.split()) + len(_UNSPACED.findall(text)) for text in joined]
    estimated = [round(count * _TOKENS_PER_WORD) + _AROUND for count in words]
    tokens = np.array(_count_tokens(folder, texts, pairs) if folder else estimated)
    positions = (about and about.max_positions) or USUAL_POSITIONS
    allowed = [length for length in _LENGTHS if length <= positions] or [positions]
    chosen = next((length for length in allowed if (tokens <= length).mean() >= _HELD_WHOLE), allowed[-1])
    return Lengths(
        tokens=_quantiles(tokens),
        words=_quantiles(words),
        characters=_quantiles([len(text) for text in joined]),
        counted=folder is not None,
        max_length=chosen,
        cut=float((tokens > chosen).mean()),
    )


def _refuse_output(wish: Wish) -> None:
    if not all(_is_unicode(text) for text in (wish.source, wish.model, str(wish.output))):
        raise BadInput("SOURCE, --model and --output must be valid Unicode, or a sweep file cannot hold them")
    try:
        if wish.output.is_dir():
            raise BadInput(f"--output {wish.output}: is a folder; name a YAML file in it")
        if wish.output.exists() and not wish.force:
            raise BadInput(f"--output {wish.output}: is there already; name another file, or overwrite it with --force")
    except OSError as error:
        raise BadInput(f"--output {wish.output}: cannot be a file here: {error.strerror}") from None


def _columns(wish: Wish) -> EveryColumn:
    """Every column; those that the user names must be there."""
    given = [("--text-column", name) for name in wish.text_columns]
    return EveryColumn((*given, *([("--label-column", wish.label_column)] if wish.label_column else ())))


def _config(wish: Wish, rows: Rows, guess: Guess) -> tuple[dict[str, int], DataConfig]:
    """The data section, and the classes that it leaves out because they cannot be split, with their texts."""
    text = guess.text[0] if len(guess.text) == 1 else list(guess.text)
    data = DataConfig(
        path=wish.source,
        text_column=text,
        text_pair_column=guess.pair,
        label_column=guess.label,
        split_column=guess.split,
    )
    if guess.split or rows.split is not None:
        return {}, data
    names = label_text(rows.frame[guess.label], rows.class_names.get(guess.label), f"--label-column '{guess.label}'")[1]
    left_out = _too_rare(rows.frame, names, data)
    kept = sorted(set(names.dropna().unique()) - set(left_out))
    if not left_out or len(kept) < 2:
        return {}, data
    return left_out, data.model_copy(update={"labels": {name: name for name in _ordered(kept, rows, guess)}})


def _too_rare(frame: pd.DataFrame, names: pd.Series, data: DataConfig) -> dict[str, int]:
    """Classes with too few distinct texts for one in each split, with the number of those."""
    counts = names.value_counts()
    small = names.isin(counts.index[counts < _SMALL_CLASS])
    if not small.any():
        return {}
    texts = text_frame(frame[small], data.text_column, data.text_pair_column, "data.")
    keys = normalised(texts["text"], texts["text_pair"] if data.text_pair_column else None)
    distinct = texts.assign(key=keys, label=names[small]).groupby("label")["key"].nunique()
    return {str(name): int(count) for name, count in distinct.items() if count < _LEAST_TEXTS}


def _ordered(kept: Sequence[str], rows: Rows, guess: Guess) -> list[str]:
    """In the order that the labels would have without a mapping."""
    names = rows.class_names.get(guess.label)
    return [name for name in names if name in kept] if names else list(kept)


def _train_texts(found: LabelledData) -> tuple[list[str], list[str] | None]:
    import pyarrow.parquet as pq

    table = pq.read_table(found.directory / "train.parquet", columns=["text", "text_pair"])
    pairs = None if table["text_pair"].null_count else table["text_pair"].to_pylist()
    return table["text"].to_pylist(), pairs


def _count_tokens(folder: Path, texts: list[str], pairs: list[str] | None) -> list[int]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    counts: list[int] = []
    for start in range(0, len(texts), _CHUNK):
        part = slice(start, start + _CHUNK)
        encoded = tokenizer(texts[part], pairs[part] if pairs else None, truncation=False, verbose=False)
        counts.extend(map(len, encoded["input_ids"]))
    return counts


def _quantiles(values: Sequence[int] | np.ndarray) -> tuple[int, int, int]:
    import numpy as np

    middle, most, longest = np.quantile(values, [0.5, 0.95, 1.0], method="higher")
    return int(middle), int(most), int(longest)


def _name(source: str) -> str:
    """A name for the sweep from the name of the data: letters, digits, dots, dashes and underscores."""
    for part in (Path(source).name, Path(source).resolve().name, Path(source).parent.name):
        while any(extensions(part)) and "." in part:
            part = part.rpartition(".")[0]
        plain = unicodedata.normalize("NFKD", part).encode("ascii", "ignore").decode()
        if slug := re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:60]:
            return slug
    return "sweep"


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
