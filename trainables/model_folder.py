"""A pretrained model's folder as files: what it holds, what decides its weights and tokens, and the hash of both.

Reads files only; what an architecture means is in `trainables.models`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainables.errors import BadInput
from trainables.files import sha256_file, sha256_json

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
)
TOKENIZER_FILES = (
    *_VOCABULARIES,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json; raise BadInput where there is none, or where the model asks to run code of its own."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; a model is a folder with config.json, weights and tokenizer files")
    config = _read_json(folder / "config.json")
    tokenizer = _read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    for name, content in (("config.json", config), ("tokenizer_config.json", tokenizer)):
        if content.get("auto_map"):
            raise BadInput(f"{folder / name}: auto_map asks to run code that comes with the model; this is never done")
    return config


def model_hash(folder: Path) -> tuple[str, str]:
    """Hash of all files that decide weights and tokens, and hash of the tokenizer files alone.

    Depends on the files' names and bytes, not on where the folder is; a README or other formats do not count.
    """
    tokenizer = _hashes(tokenizer_files(folder))
    weights = _hashes([folder / "config.json", *weight_files(folder)])
    return sha256_json(weights | tokenizer), sha256_json(tokenizer)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers would load, with their index; raise BadInput where there are none."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / WEIGHTS_INDEX).is_file():
        raise BadInput(_no_weights(folder))
    index = _read_json(folder / WEIGHTS_INDEX)
    shards = index.get("weight_map")
    names = sorted(set(map(str, shards.values()))) if isinstance(shards, dict) else []
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing or not names:
        raise BadInput(f"{folder / WEIGHTS_INDEX}: names weights that are not files in its folder: {missing}")
    return [folder / WEIGHTS_INDEX, *(folder / name for name in names)]


def tokenizer_files(folder: Path) -> list[Path]:
    """The files that decide how text becomes tokens; raise BadInput where there is no vocabulary."""
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise BadInput(f"{folder}: has no tokenizer; one of these files is needed: {', '.join(_VOCABULARIES)}")
    return [folder / name for name in sorted(TOKENIZER_FILES) if (folder / name).is_file()]


def check_weights(folder: Path) -> None:
    """Read the headers of the weights; raise BadInput where one does not agree with the bytes behind it."""
    from safetensors import SafetensorError, safe_open

    for path in weight_files(folder):
        if path.suffix != ".safetensors":
            continue
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BadInput(f"{path}: is no whole safetensors file ({reason}); download or save it again") from None


def vocabulary_size(folder: Path) -> int | None:
    """One more than the highest token id of a tokenizer.json, added tokens included; None where there is none.

    Raises BadInput where the file is not what the `tokenizers` library writes.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    content = _read_json(path)
    try:
        vocabulary = content["model"].get("vocab") or ()
        # Unigram lists its tokens with their scores, in the order of their ids; all others map token to id.
        ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
        added = [token["id"] for token in content.get("added_tokens") or ()]
        return int(max(max(ids, default=-1), max(added, default=-1))) + 1
    except (KeyError, TypeError, AttributeError, ValueError):
        raise BadInput(f"{path}: is not a tokenizer as the tokenizers library writes it") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path.parent}: has no {path.name}, so it is not a transformers model folder") from None
    except (ValueError, OSError, RecursionError) as error:
        raise BadInput(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadInput(f"{path}: must hold a JSON object")
    return value


def _no_weights(folder: Path) -> str:
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    if not pickles:
        return f"{folder}: has no {WEIGHTS}"
    return (
        f"{folder}: has pickled weights only ({', '.join(pickles)}), which can run code when opened; where you trust "
        "them, convert them once: AutoModel.from_pretrained(folder).save_pretrained(new_folder) writes safetensors"
    )


def _hashes(files: Sequence[Path]) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in files}
