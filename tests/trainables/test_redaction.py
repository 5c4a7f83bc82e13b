"""Secrets are taken out, what surrounds them stays, and a failed trial writes none."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.planted import SECRETS, Planted, leaked
from tests.tiny import tiny_model
from tests.tiny_data import trial_spec
from trainables.directory import TrialDirectory
from trainables.records import Result
from trainables.redaction import holds_secret, redact, redact_all
from trainables.trial import run_trial


def test_there_are_twenty_secrets_of_different_kinds() -> None:
    assert len({planted.kind for planted in SECRETS}) == len({planted.secret for planted in SECRETS}) == 20


@pytest.mark.parametrize("planted", SECRETS, ids=lambda planted: planted.kind)
def test_a_secret_is_taken_out_and_what_surrounds_it_stays(planted: Planted) -> None:
    shown = redact(planted.text)
    assert "***" in shown and leaked(shown) == []
    for word in ("db.example.org:5432/mlflow", "mlflow.example.org/api?page=2", "&page=2", "&se=2027", "port=1"):
        assert (word in shown) == (word in planted.text)
    assert redact_all({"a": [planted.text, 1, None]}) == {"a": [shown, 1, None]}
    assert redact(shown) == shown


@pytest.mark.parametrize("planted", SECRETS, ids=lambda planted: planted.kind)
def test_a_value_that_holds_a_secret_is_known_as_such(planted: Planted) -> None:
    assert holds_secret(planted.text)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me@db.example.org/mlflow",
        "http://127.0.0.1:5000",
        "sqlite:////shared/mlflow.db",
        "/data/hf_finetuned/encoder",
        "sk-learn-style/bert-base-uncased",
        "sentence-transformers/all-MiniLM-L6-v2",
        "pad_token=[PAD]",
        "my tokens and passwords",
    ],
)
def test_what_only_looks_like_a_secret_may_stand_in_a_sweep_file(text: str) -> None:
    assert not holds_secret(text)


@pytest.mark.parametrize("planted", SECRETS, ids=lambda planted: planted.kind)
@pytest.mark.parametrize("quoted", [repr, json.dumps])
def test_a_secret_is_taken_out_of_a_message_that_another_one_quotes(
    planted: Planted, quoted: Callable[[str], str]
) -> None:
    for text in (f"\n{planted.text}", f"it's\n{planted.text}", f'"{planted.text}"'):
        assert leaked(redact(f"KeyError: {quoted(text)}")) == []


@pytest.mark.parametrize(
    "text",
    [
        "the tokenizer has no pad_token=[PAD] and cls_token='[CLS]'",
        "tokens=512, max_length=256; unknown token: foo",
        "Known: password_reset, token, secret_santa",
        "http://127.0.0.1:5000/#/experiments/1?mail=me@example.org",
        "http://mlflow:5000/api and me@example.org",
        "KeyError: 'token'; token=None",
        "f" * 64,
        "RAY_AUTH_MODE=token ray job submit --working-dir .",
        "/home/me@work/runs/imdb/trials/0123456789ab/log.txt",
        "models: glove-wiki-gigaword-300, sk-learn-contrib-extension, pypi-attestations-verifier",
        "basic training of a ring bearer, signature: (a, b) -> c",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_a_trial_that_fails_over_secrets_writes_none_of_them(tmp_path: Path) -> None:
    every = "\n".join(planted.text for planted in SECRETS)

    def fail(_: dict[str, Any]) -> None:
        logging.getLogger("somebody").warning("it goes wrong: %s", every)
        try:
            raise KeyError(every)
        except KeyError as error:
            logging.getLogger("somebody").warning("it went wrong", exc_info=True)
            raise RuntimeError(every) from error

    spec = trial_spec(tiny_model("bert", tmp_path / "bert"), tmp_path)
    result = run_trial(spec, fail)
    left = TrialDirectory(Path(spec.directory))
    assert (result.status, result.reason) == ("FAILED", "infra")
    assert Result.read(left.result) == result
    log = left.log.read_text(encoding="utf-8")
    assert [log.count(word) for word in ("it goes wrong", "it went wrong", "Traceback")] == [1, 1, 3]
    for text in (left.result.read_text(encoding="utf-8"), log):
        assert leaked(text) == [] and "***@db.example.org" in text
