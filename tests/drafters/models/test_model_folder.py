"""Real folders: what makers leave in them is left out, named once, and written nowhere."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from drafters.io.model_json import check_config_bounds, tidy
from drafters.models.model_folder import open_generation_config, open_model
from drafters.models.pair import Checkpoint, open_checkpoint, pair_settings
from drafters.models.prune import load_pruned, save_pruned
from drafters.package.reader import load
from drafters.package_error import PackageError

CONFIG, GENERATION, TOKENIZER = "config.json", "generation_config.json", "tokenizer_config.json"
CPU = torch.device("cpu")
KEPT = torch.tensor([0, 1, 2, 3, 7])
# As published folders carry them, each group by several families or tools.
NOTES = {
    "unsloth_fixed": True, "rope_interleaved": False, "is_llama_config": True, "use_mrope": False, "unk_token_id": 0,
    "_model_name_or_path": "SmolLM 8k Ep2", "_attn_implementation": "flash_attention_2", "_experts_implementation": None,
    "_flash_attn_2_enabled": True, "_from_auto": True, "_num_labels": 2, "quantization_note": {"was": "bnb"},
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "auto_map": {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "org/repo--modeling_x.X"},
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tools) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "model"
    tools.make_model().save_pretrained(folder)
    tools.make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(plain, tmp_path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "model"))


def edit(path: Path, **changes: object) -> None:
    data = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(data | changes))


def opened(folder: Path, role: str = "drafter") -> Checkpoint:
    return open_checkpoint(role, pair_settings(target=str(folder), drafter=str(folder)))


def refused(folder: Path, file: str, field: str) -> PackageError:
    with pytest.raises(PackageError) as caught:
        opened(folder)
    assert (caught.value.file, caught.value.field) == (file, field), str(caught.value)
    return caught.value


def test_notes_are_named_once_and_written_nowhere(folder):
    edit(folder / CONFIG, **NOTES, _name_or_path="/home/someone/model")
    edit(
        folder / TOKENIZER, auto_map={"AutoTokenizer": ["t.T", None]}, _hash="abc", tokenizer_file="/root/.cache/x.json"
    )
    edit(folder / GENERATION, _custom=3, mystery="kept by someone")
    found = opened(folder)
    in_config = {note for note in found.notes if "(" not in note}
    assert in_config == {key for key, value in NOTES.items() if value is not None}
    assert {note for note in found.notes if "(" in note} == {
        f"_hash ({TOKENIZER})",
        f"auto_map ({TOKENIZER})",
        f"_custom ({GENERATION})",
    }
    model = open_model(found.source, found.config, torch.float32, CPU)
    save_pruned(model, KEPT, folder / "out")
    written = json.loads((folder / "out" / CONFIG).read_text())
    assert not NOTES.keys() & written.keys()
    assert "mystery" not in (folder / "out" / GENERATION).read_text()
    assert len(load_pruned(folder / "out").get_output_embeddings().weight) == len(KEPT)


def test_what_is_left_out_changes_no_logit(plain, folder):
    edit(folder / CONFIG, **NOTES)
    ids = torch.tensor([[1, 7, 9, 30]])
    both = [open_model((found := opened(path)).source, found.config, torch.float32, CPU) for path in (plain, folder)]
    with torch.no_grad():
        assert torch.equal(both[0](ids).logits, both[1](ids).logits)


def test_a_package_of_a_drafter_with_notes_opens(folder, tools, tmp_path):
    """Nothing of what the prune stage lets through may be refused by the package's own check, hours later."""
    edit(folder / CONFIG, **NOTES)
    edit(folder / TOKENIZER, auto_map={"AutoTokenizer": ["t.T", None]}, _hash="abc")
    edit(
        folder / TOKENIZER,
        chat_template=[{"name": "default", "template": "{{ messages }}"}, {"name": "rag", "template": "r"}],
    )
    found = opened(folder)
    model = open_model(found.source, found.config, torch.float32, CPU)
    directory = tools.write(tmp_path / "package", slots=False, model=model, tokenizer=found.tokenizer)
    assert load(directory, device="cpu").tokenizer.chat_template == "{{ messages }}"


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.6, "top_p": 0.9},
        {"pad_token_id": -1},
        {"early_stopping": True},
        {"temperature": 1.5, "eos_token_id": [2, 1]},
    ],
)
def test_generation_settings_that_transformers_reads_and_will_not_write(folder, settings):
    (folder / GENERATION).write_text(json.dumps({"eos_token_id": 2} | settings))
    found = opened(folder)
    model = open_model(found.source, found.config, torch.float32, CPU)
    with pytest.raises(ValueError, match="invalid"):  # so would stock transformers end a prune run
        model.save_pretrained(folder / "stock")
    save_pruned(model, KEPT, folder / "out")
    assert json.loads((folder / "out" / GENERATION).read_text())["eos_token_id"] == settings.get("eos_token_id", 2)


def test_private_numbers_of_an_architecture_are_no_notes(folder):
    data = {"_sliding_window_pattern": 6, "text_config": {"_remove_final_layer_norm": True}}
    assert tidy(data, CONFIG) == (data, [])
    for value in ("6", [6], {"a": 6}):
        with pytest.raises(PackageError):
            tidy({"_sliding_window_pattern": value}, CONFIG)


def test_a_wrong_path_is_called_one(tmp_path):
    (tmp_path / "README.md").write_text("")
    assert "Check the path" in refused(tmp_path, CONFIG, "file").fix


@pytest.mark.parametrize(
    "config",
    [
        {"intermediate_size": [64, 64]},
        {"num_key_value_heads": [2, 0, None, 1]},
        {"vision_config": {"num_hidden_layers": 0, "num_attention_heads": 0}},
        {"text_config": {"intermediate_size": [0, 128]}, "audio_config": {"hidden_size": 0}},
    ],
)
def test_sizes_of_layers_and_of_parts_that_no_text_model_reads(config):
    check_config_bounds(config, CONFIG)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"intermediate_size": [64, 1 << 40]}, "intermediate_size"),
        ({"intermediate_size": [64, "64"]}, "intermediate_size"),
        ({"intermediate_size": [[64]]}, "intermediate_size"),
        ({"num_attention_heads": [1] * 5000}, "num_attention_heads"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"text_config": {"num_hidden_layers": 0}}, "text_config.num_hidden_layers"),
        ({"vision_config": {"hidden_size": 1 << 40}}, "vision_config.hidden_size"),
        ({"vision_config": {"hidden_size": -1}}, "vision_config.hidden_size"),
        ({"thinker_config": {"text_config": {"hidden_size": 0}}}, "thinker_config.text_config.hidden_size"),
    ],
)
def test_sizes_that_are_none(config, field):
    with pytest.raises(PackageError) as caught:
        check_config_bounds(config, CONFIG)
    assert caught.value.field == field


def test_generation_settings_that_no_one_can_read(folder):
    edit(folder / GENERATION, max_new_tokens=-1)
    refused(folder, GENERATION, "file")


def test_a_folder_without_generation_settings(folder):
    (folder / GENERATION).unlink()
    assert open_generation_config(opened(folder).source) is None
