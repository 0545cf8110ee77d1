"""Danger that hides among the harmless notes of a model folder is refused, file and field named."""

import json
import shutil
from pathlib import Path

import pytest

from drafters.io.model_json import check_template
from drafters.models.pair import Checkpoint, open_checkpoint, pair_settings
from drafters.package_error import PackageError

CONFIG, GENERATION, TOKENIZER = "config.json", "generation_config.json", "tokenizer_config.json"
NOTES = {
    "unsloth_fixed": True,
    "_model_name_or_path": "x 8k",
    "_attn_implementation": "sdpa",
    "_from_auto": True,
    "_num_labels": 2,
}


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


CODE = {"AutoModelForCausalLM": "evil.Model"}
REACHING = "{% include '/etc/passwd' %}"
INNARDS = "{{ ''.__class__.__mro__ }}"
DANGER = [
    # code of a type that transformers does not implement, wherever it stands
    (CONFIG, {"model_type": "evil", "auto_map": CODE}, "auto_map"),
    (CONFIG, {"auto_map": CODE, "model_type": None}, "auto_map"),
    (CONFIG, {"text_config": {"model_type": "evil", "auto_map": CODE}}, "text_config.auto_map"),
    (CONFIG, {"text_config": {"auto_map": CODE}}, "text_config.auto_map"),
    (CONFIG, {"vision_config": {"model_type": "evil_vit", "auto_map": CODE}}, "vision_config.auto_map"),
    (CONFIG, {"extra": [{"more": {"auto_map": CODE}}]}, "extra[0].more.auto_map"),
    (CONFIG, {"quantization_config": {"quant_method": "awq", "auto_map": CODE}}, "quantization_config.auto_map"),
    (CONFIG, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "auto_map": CODE}}, "rope_parameters.auto_map"),
    (TOKENIZER, {"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": ["e.T", None]}}, "auto_map"),
    (TOKENIZER, {"extra": {"auto_map": ["e.T", None]}}, "extra.auto_map"),
    (GENERATION, {"auto_map": CODE}, "auto_map"),
    ("special_tokens_map.json", {"auto_map": CODE}, "auto_map"),
    # private keys that steer, beside ones that do not
    (CONFIG, {"_attn_implementation_internal": "evil/kernel"}, "_attn_implementation_internal"),
    (CONFIG, {"_experts_implementation_internal": 1}, "_experts_implementation_internal"),
    (CONFIG, {"text_config": {"_attn_implementation": "evil/kernel"}}, "text_config._attn_implementation"),
    (CONFIG, {"_attn_implementation": {"text_config": "sdpa", "vision_config": "evil/kernel"}}, "_attn_implementation"),
    (CONFIG, {"_experts_implementation": "kernels-community/moe"}, "_experts_implementation"),
    (CONFIG, {"attn_implementation": "evil/kernel:fn"}, "attn_implementation"),
    (CONFIG, {"experts_implementation": {"": "evil/kernel"}}, "experts_implementation"),
    (CONFIG, {"_model_name_or_path": ["a", "b"]}, "_model_name_or_path"),
    (CONFIG, {"_load_in_4bit": {"_target_": "os.system"}}, "_load_in_4bit"),
    (CONFIG, {"_target_": "os.system"}, "_target_"),
    (CONFIG, {"_partial_": True}, "_partial_"),
    (CONFIG, {"__reduce__": ["os.system", ["true"]]}, "__reduce__"),
    (CONFIG, {"__class__": 1}, "__class__"),
    (CONFIG, {"__type": "evil.Token"}, "__type"),
    (CONFIG, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "_secret": "x"}}, "rope_parameters._secret"),
    (CONFIG, {"_sliding_window_pattern": "6"}, "_sliding_window_pattern"),
    (TOKENIZER, {"_target_": "os.system"}, "_target_"),
    (GENERATION, {"_loader": "evil"}, "_loader"),
    # names of loaders' arguments
    (CONFIG, {"transformers_weights": "../x.safetensors"}, "transformers_weights"),
    (CONFIG, {"text_config": {"use_kernels": True}}, "text_config.use_kernels"),
    (CONFIG, {"text_config": {"adapter_kwargs": {"base": "evil/lora"}}}, "text_config.adapter_kwargs"),
    (CONFIG, {"trust_remote_code": True}, "trust_remote_code"),
    (CONFIG, {"quantization_config": {"kernel_config": {"a": "b/c"}}}, "quantization_config.kernel_config"),
    (GENERATION, {"custom_generate": "evil/repository"}, "custom_generate"),
    (TOKENIZER, {"gguf_file": "../../x.gguf"}, "gguf_file"),
    (TOKENIZER, {"init_inputs": ["/etc/passwd"]}, "init_inputs"),
    (TOKENIZER, {"fast_tokenizer_files": ["../elsewhere/tokenizer.4.0.json"]}, "fast_tokenizer_files"),
    (TOKENIZER, {"tokenizer_object": {"a": 1}}, "tokenizer_object"),
    # methods of the config, hidden
    (CONFIG, {"get_text_config": 1}, "get_text_config"),
    (CONFIG, {"text_config": {"to_dict": "x"}}, "to_dict"),
    # templates, one bad one in a collection
    (TOKENIZER, {"chat_template": REACHING}, "chat_template"),
    (TOKENIZER, {"chat_template": [{"name": "a", "template": "ok"}, {"name": "x", "template": REACHING}]}, "chat_template.1.template"),
    (TOKENIZER, {"chat_template": {"default": "ok", "tool_use": INNARDS}}, "chat_template.tool_use"),
    (TOKENIZER, {"chat_template": "{% import 'a' as b %}"}, "chat_template"),
    (TOKENIZER, {"chat_template": "{{ x['__globals__'] }}"}, "chat_template"),
    (TOKENIZER, {"chat_template": "{{ x|attr('__subclasses__') }}"}, "chat_template"),
    ("chat_template.json", {"chat_template": "{%- extends 'base' %}"}, "chat_template"),
    # sizes
    (CONFIG, {"intermediate_size": [24, 1 << 40]}, "intermediate_size"),
    (CONFIG, {"vision_config": {"hidden_size": 1 << 40}}, "vision_config.hidden_size"),
    # a path that is no note: bare names alone are followed
    ("model.safetensors.index.json", {"weight_map": {"a": "../x.safetensors"}}, "weight_map.a"),
    ("model.safetensors.index.json", {"weight_map": {"a": "pytorch_model-00001.bin"}}, "weight_map.a"),
    ("model.safetensors.index.json", {"weight_map": {"a": "data.pkl"}}, "weight_map.a"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "change", "field"), DANGER)
def test_danger_that_hides_among_notes(folder, file, change, field):
    edit(folder / CONFIG, **NOTES)
    opened(folder)
    if file.endswith("index.json"):
        (folder / "model.safetensors").unlink()
    edit(folder / file, **change)
    refused(folder, file, field)


def test_at_least_fifty_of_them():
    assert len(DANGER) >= 50


@pytest.mark.parametrize("name", ["chat_template.jinja", "additional_chat_templates/tool_use.jinja"])
@pytest.mark.parametrize("text", [REACHING, INNARDS])
def test_templates_in_files_of_their_own(folder, name, text):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{{ messages }}")
    opened(folder)
    (folder / name).write_text(text)
    refused(folder, name, "chat_template")


@pytest.mark.parametrize(
    "name",
    ["added_tokens.json", "vocab.json", "chat_template.jinja", "spiece.model", "additional_chat_templates/a.jinja"],
)
def test_links_out_of_the_folder_in_every_file_that_may_be_read(folder, tmp_path, name):
    (tmp_path / "outside").write_text("{}")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(tmp_path / "outside")
    refused(folder, name, "link")


def test_a_vocabulary_outside_of_the_folder_is_not_followed(folder, tmp_path):
    """Where its maker's files lay is a note in many tokenizer configs; nobody opens that path."""
    shutil.copy(folder / "tokenizer.json", tmp_path / "outside.json")
    edit(tmp_path / "outside.json", model={"type": "WordLevel", "vocab": {"evil": 0}, "unk_token": "evil"})
    for key in ("tokenizer_file", "vocab_file", "merges_file", "special_tokens_map_file", "spm_file"):
        edit(folder / TOKENIZER, **{key: str(tmp_path / "outside.json")})
    assert "evil" not in opened(folder).tokenizer.get_vocab()


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m.content }}<|im_end|>{% endfor %}",
        "{%- set ns = namespace(system='') -%}{%- if tools is defined %}{{ tools | tojson }}{%- endif %}",
        "{{ 'Answer only from __init__.py, import nothing' }}{% generation %}x{% endgeneration %}",
        "{%- macro render(m) -%}{{ m.__len__ if false else '' }}{%- endmacro -%}".replace(
            "m.__len__ if false else ", ""
        ),
    ],
)
def test_templates_in_use_pass(template):
    check_template([{"name": "default", "template": template}], TOKENIZER)
