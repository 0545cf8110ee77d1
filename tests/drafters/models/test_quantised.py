"""Quantised targets: never cast, never moved; without their library one sentence says what to install."""

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import drafters
from drafters.models import model_folder, quantised
from drafters.models.model_folder import open_model
from drafters.models.pair import Checkpoint, open_checkpoint, pair_settings
from drafters.package_error import PackageError

CPU = torch.device("cpu")
BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True, "_load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
METHODS = [
    (BNB, "pip install bitsandbytes accelerate"),
    ({"load_in_8bit": True}, "pip install bitsandbytes accelerate"),
    ({"quant_method": "awq", "bits": 4}, "pip install gptqmodel accelerate"),
    ({"quant_method": "gptq", "bits": 4}, "pip install gptqmodel optimum accelerate"),
    ({"quant_method": "compressed-tensors"}, "pip install compressed-tensors accelerate"),
    ({"quant_method": "fp8"}, "pip install accelerate"),
    ({"quant_method": "mxfp4"}, "pip install accelerate"),
]


@pytest.fixture
def folder(tmp_path, tools) -> Path:
    tools.make_model().save_pretrained(tmp_path / "model")
    tools.make_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def quantise(folder: Path, settings: object, part: str | None = None) -> None:
    data = json.loads((folder / "config.json").read_text())
    (data if part is None else data[part])["quantization_config"] = settings
    (folder / "config.json").write_text(json.dumps(data))


def opened(folder: Path, role: str = "target") -> Checkpoint:
    return open_checkpoint(role, pair_settings(target=str(folder), drafter=str(folder)))


@pytest.mark.parametrize(("settings", "fix"), METHODS)
def test_a_missing_library_is_named_with_its_command(folder, monkeypatch, settings, fix):
    monkeypatch.setattr(quantised.importlib.util, "find_spec", lambda name: None)
    quantise(folder, settings)
    found = opened(folder)  # config and tokenizer are readable without
    with pytest.raises(PackageError, match=fix) as caught:
        open_model(found.source, found.config, torch.float32, CPU)
    assert caught.value.field == "quantization_config.quant_method"


def test_what_transformers_says_of_the_device_is_passed_on(folder, monkeypatch):
    monkeypatch.setattr(quantised.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    quantise(folder, {"quant_method": "fbgemm_fp8"})
    with pytest.raises(PackageError, match=r"fbgemm_fp8 on cpu, got .*GPU"):
        quantised.check_target(opened(folder).config, CPU)


def test_unknown_methods_are_refused_by_name(folder):
    """transformers would skip the quantisation with a warning, and read packed numbers as weights."""
    quantise(folder, {"quant_method": "nonesuch"})
    with pytest.raises(PackageError, match=r"expected one of bitsandbytes, .*, got nonesuch"):
        quantised.check_target(opened(folder).config, CPU)


def test_a_quantised_drafter_is_refused(folder):
    quantise(folder, BNB)
    with pytest.raises(PackageError, match="expected an unquantised drafter, got bitsandbytes"):
        opened(folder, "drafter")


def test_it_is_opened_on_its_device_and_then_left_alone(folder, monkeypatch):
    """Stands in for any quantised class: moving or casting it is what those refuse."""
    asked = {}

    class Packed(LlamaForCausalLM):
        @classmethod
        def from_pretrained(cls, *args, **options):
            asked.update(options)
            model = cls(options["config"])
            return model, {"missing_keys": [], "mismatched_keys": []}

        def to(self, *args, **kwargs):
            raise ValueError("`.to` is not supported for quantised models")

    quantise(folder, BNB)
    monkeypatch.setattr(quantised, "check_target", lambda config, device: None)
    monkeypatch.setattr(model_folder, "model_class", lambda config: Packed)
    found = opened(folder)
    assert isinstance(open_model(found.source, found.config, torch.float32, CPU), Packed)
    assert (asked["device_map"], asked["dtype"]) == ({"": CPU}, "auto")
    assert found.weight_bytes(torch.float32) == sum(info.bytes for info in found.tensors.values())


def test_four_bits_decode_as_stock_does(tmp_path, tools):
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes")
    pytest.importorskip("accelerate", reason="needs accelerate")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=48, bos_token_id=1, eos_token_id=2, **sizes)).save_pretrained(
        tmp_path / "plain"
    )
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", quantization_config=settings, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "packed")
    tools.make_tokenizer().save_pretrained(tmp_path / "packed")
    found = opened(tmp_path / "packed")
    target = open_model(found.source, found.config, torch.float32, CPU)
    package = drafters.load(tools.write(tmp_path / "package", slots=False), device="cpu", dtype="fp32")
    ids = torch.tensor([[1, 7, 9, 11, 20]])
    with torch.no_grad():
        stock = target.generate(ids, do_sample=False, max_new_tokens=16, pad_token_id=0)[0, 5:]
    ours = drafters.generate(target, package, ids, temperature=0.0, max_new_tokens=16, sampler="tli")
    assert ours.tokens[0].tolist() == stock.tolist()
