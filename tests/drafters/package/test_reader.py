"""A package gives back what was put in, in both forms, with the same bytes wherever and whenever it is written."""

import os
import shutil
from pathlib import Path

import pytest
import torch

import drafters
from drafters.io.manifest import read_manifest
from drafters.models.heads import PrunedHead
from drafters.models.prune import PruneError, prune_head
from drafters.package.reader import load
from drafters.package.writer import Origin, describe, fit_vocabulary, plain_name
from drafters.package_error import PackageError
from drafters.rounding import excess, logits_bound
from drafters.vocab.alignment import VocabMap

pytestmark = pytest.mark.floats
IDS = torch.tensor([[1, 7, 20, 45, 3]])


@pytest.fixture(scope="module")
def loaded(original):
    return load(original, device="cpu")


def test_both_forms_give_the_full_models_logits(loaded, tools):
    full = tools.make_model()(IDS).logits
    kept = torch.tensor(tools.kept)
    assert torch.equal(loaded.kept, kept)
    bound = logits_bound(loaded.drafter, IDS)
    assert excess(loaded.drafter(IDS).logits, full[..., kept], bound) <= 1
    wide = loaded.model(IDS).logits
    assert wide.shape == (1, 5, tools.vocabulary) == (1, 5, loaded.model.config.vocab_size)
    assert excess(wide[..., kept], full[..., kept], bound) <= 1
    assert torch.isneginf(wide).sum() == 5 * (tools.vocabulary - len(kept))


def test_scattering_to_wrong_columns_is_seen(original, tools, monkeypatch):
    def backwards(self, logits):
        full = logits.new_full((*logits.shape[:-1], self.vocabulary), -torch.inf)
        return full.index_copy_(-1, self.kept.flip(0), logits)

    monkeypatch.setattr(PrunedHead, "spread", backwards)
    with pytest.raises(AssertionError):
        test_both_forms_give_the_full_models_logits(load(original, device="cpu"), tools)


def test_the_two_forms_share_every_weight(loaded):
    wide, short = (dict(form.named_parameters()) for form in (loaded.model, loaded.drafter))
    assert wide.keys() == short.keys()
    assert all(wide[name] is short[name] for name in wide)
    assert not any(parameter.requires_grad for parameter in wide.values())
    assert not loaded.model.training


def test_changing_one_forms_weights_changes_the_other(original):
    both = load(original, device="cpu")
    before, bound = both.drafter(IDS).logits, logits_bound(both.drafter, IDS)
    both.model.double()
    assert both.drafter(IDS).logits.dtype == torch.float64
    assert excess(both.drafter(IDS).logits, before, bound) <= 1


def test_transformers_generates_kept_tokens_only(loaded):
    out = loaded.model.generate(IDS, max_new_tokens=12, do_sample=True, pad_token_id=0)
    assert set(out[0, IDS.shape[1] :].tolist()) <= set(loaded.kept.tolist())


def test_soft_capped_logits_stay_minus_infinity(tmp_path, tools):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=tools.vocabulary, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, final_logit_softcapping=2.0, max_position_embeddings=64,
    )  # fmt: skip
    model = Gemma2ForCausalLM(config).eval()
    full, kept = model(IDS).logits, torch.tensor(tools.kept)
    loaded = load(tools.write(tmp_path / "gemma", slots=False, model=model), device="cpu")
    assert loaded.model.config._attn_implementation == "eager"
    assert torch.isneginf(loaded.model(IDS).logits).sum() == 5 * (tools.vocabulary - len(kept))
    assert excess(loaded.drafter(IDS).logits, full[..., kept], logits_bound(loaded.drafter, IDS)) <= 1


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "opt", "gpt_bigcode", "qwen2", "phi", "mistral", "bitnet"])
def test_other_families_load(family, tmp_path, tools):
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {
        "vocab_size": tools.vocabulary, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64,
    }  # fmt: skip
    sizes |= {"opt": {"ffn_dim": 24, "word_embed_proj_dim": 16}, "mistral": {"head_dim": 8}}.get(family, {})
    if family in ("gpt2", "gpt_bigcode", "gpt_neox", "opt"):
        sizes.pop("num_key_value_heads")
    if family in ("gpt2", "gpt_bigcode", "opt"):
        sizes.pop("intermediate_size")
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**sizes)).eval()
    full, kept = model(IDS).logits, torch.tensor(tools.kept)
    loaded = load(tools.write(tmp_path / family, slots=False, model=model), device="cpu")
    bound = logits_bound(loaded.drafter, IDS)
    assert excess(loaded.drafter(IDS).logits, full[..., kept], bound) <= 1
    assert excess(loaded.model(IDS).logits[..., kept], full[..., kept], bound) <= 1


def test_slots_come_back_as_they_were(loaded, tools):
    slots = tools.make_slots()
    for name in ("index", "weight", "share"):
        assert torch.equal(getattr(loaded.affinity, name), getattr(slots["affinity"], name))
    assert loaded.tail.ids.tolist() == slots["tail"].ids.tolist()
    assert loaded.tail.up.shape == (5, 2)
    assert loaded.stop.config == slots["stop"].config
    assert all(torch.equal(loaded.stop.tensors[key], value) for key, value in slots["stop"].tensors.items())


def test_empty_slots_are_none(tmp_path, tools):
    loaded = load(tools.write(tmp_path / "plain", slots=False), device="cpu")
    assert (loaded.affinity, loaded.tail, loaded.stop) == (None, None, None)
    assert loaded.pruned
    assert not loaded.foreign
    assert loaded.description["recommended"] == {"sampler": "tli", "stop": "static"}


def test_same_inputs_same_bytes_wherever_and_whenever(original, tmp_path, tools, monkeypatch):
    monkeypatch.chdir(tmp_path)
    again = tools.write(Path("elsewhere") / "deeper")
    os.utime(again, (0, 0))
    names = sorted(path.relative_to(original).as_posix() for path in original.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again).as_posix() for path in again.rglob("*") if path.is_file())
    assert [name for name in names if (original / name).read_bytes() != (again / name).read_bytes()] == []
    for name in names:
        assert str(tmp_path).encode() not in (again / name).read_bytes()
        assert str(original.parent).encode() not in (original / name).read_bytes()


def test_a_moved_package_loads(package, tmp_path):
    moved = tmp_path / "a b" / "ünïcode"
    shutil.move(package, moved)
    assert load(moved, device="cpu").manifest == read_manifest(moved)


def test_what_a_published_folder_holds_beside_the_package_is_not_read(package):
    (package / "README.md").write_text("card")
    (package / "eval").mkdir()
    (package / "eval" / "report.json").write_text("not even JSON")
    assert load(package, device="cpu").description["name"] == "tiny"


@pytest.mark.parametrize("own", [40, 64])
def test_a_drafter_padded_otherwise_gets_the_targets_vocabulary(own, tmp_path, tools):
    kept = torch.tensor([0, 1, 2, 7, 33])
    model = tools.make_model(own)
    full = model(IDS.clamp(max=39)).logits[..., kept]
    to_drafter = torch.full((tools.vocabulary,), -1)
    to_drafter[kept] = torch.arange(5)
    description = describe(
        "padded", Origin("t", None, None, tools.vocabulary), Origin("d", None, None, tools.vocabulary),
        kept=5, foreign=False, eos=tools.eos,
    )  # fmt: skip
    directory = tools.write(
        tmp_path / "padded", slots=False, model=model, kept=kept, vocab=VocabMap(kept.clone(), to_drafter),
        tokenizer=tools.make_tokenizer(40), description=description,
    )  # fmt: skip
    loaded = load(directory, device="cpu")
    assert loaded.model.config.vocab_size == tools.vocabulary == loaded.model(IDS).logits.shape[-1]
    bound = logits_bound(loaded.drafter, IDS.clamp(max=39))
    assert excess(loaded.drafter(IDS.clamp(max=39)).logits, full, bound) <= 1


def test_fitting_an_equal_vocabulary_changes_nothing(tools):
    model = tools.make_model()
    before = model.get_input_embeddings()
    fit_vocabulary(model, tools.vocabulary)
    assert model.get_input_embeddings() is before


def test_a_foreign_package_has_the_drafters_own_columns(tmp_path, tools):
    kept = torch.tensor([0, 2, 5, 9])
    to_target = torch.tensor([60, 63, 7, 60])  # rows 0 and 3 spell the same target token
    to_drafter = torch.full((64,), -1)
    to_drafter[torch.tensor([60, 63, 7])] = torch.tensor([3, 1, 2])
    description = describe(
        "foreign",
        Origin("t", None, None, 64),
        Origin("d", None, None, tools.vocabulary),
        kept=4,
        foreign=True,
        eos=(63, 62),
    )
    directory = tools.write(
        tmp_path / "foreign", slots=False, kept=kept, vocab=VocabMap(to_target, to_drafter), description=description
    )
    loaded = load(directory, device="cpu")
    assert loaded.foreign
    assert loaded.model(IDS).logits.shape[-1] == tools.vocabulary
    assert loaded.drafter(IDS).logits.shape[-1] == 4
    assert loaded.vocab.to_target.tolist() == [60, 63, 7, 60]
    assert loaded.vocab.to_drafter[60] == 3


def test_an_unpruned_package_recommends_standard(tmp_path, tools):
    everything = torch.arange(tools.vocabulary)
    description = describe(
        "whole", Origin("t", None, None, tools.vocabulary), Origin("d", None, None, tools.vocabulary),
        kept=tools.vocabulary, foreign=False, eos=tools.eos,
    )  # fmt: skip
    directory = tools.write(
        tmp_path / "whole",
        slots=False,
        kept=everything,
        vocab=VocabMap(everything, everything),
        description=description,
    )
    loaded = load(directory, device="cpu")
    assert not loaded.pruned
    assert loaded.description["recommended"]["sampler"] == "standard"
    assert torch.equal(loaded.model(IDS).logits, loaded.drafter(IDS).logits)  # the very same weights in one product


def test_a_target_without_an_end_of_text_can_have_a_package(tmp_path, tools):
    description = describe(
        "endless", Origin("t", None, None, tools.vocabulary), Origin("d", None, None, tools.vocabulary),
        kept=len(tools.kept), foreign=False, eos=(),
    )  # fmt: skip
    directory = tools.write(tmp_path / "endless", slots=False, description=description)
    assert load(directory, device="cpu").description["eos"] == []


def test_dtype_and_device_are_as_asked(original):
    assert load(original, device="cpu").model.dtype == torch.float32
    assert load(original, device="cpu", dtype="bf16").drafter.dtype == torch.bfloat16


def test_a_package_is_written_into_an_empty_directory_only(original, tools):
    with pytest.raises(FileExistsError, match="new directory"):
        tools.write(original)


def test_parts_that_do_not_fit_are_refused_when_written(tmp_path, tools):
    kept = torch.tensor([0, 7])
    to_drafter = torch.full((tools.vocabulary,), -1)
    to_drafter[kept] = torch.arange(2)
    with pytest.raises(PackageError, match="EOS"):
        tools.write(tmp_path / "eos", kept=kept, vocab=VocabMap(kept, to_drafter))
    with pytest.raises(PruneError, match="differ"):
        tools.write(tmp_path / "other", model=prune_head(tools.make_model(), torch.arange(9)))


def test_the_public_name_is_this_loader(original):
    assert drafters.load is load
    assert "load" in dir(drafters)
    with pytest.raises(AttributeError, match=r"public names: .*load"):
        drafters.laod  # noqa: B018


def unreachable(self, *args, **kwargs):
    raise ConnectionError("no network in tests")


def test_what_is_not_a_package_says_what_would_be(tmp_path, monkeypatch):
    with pytest.raises(PackageError, match=r"no such folder.*stage=package") as caught:
        load(tmp_path / "nowhere")
    assert caught.value.field == "path"
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    with pytest.raises(
        PackageError, match="its newest commit from the Hub, or from its local cache, got ConnectionError"
    ):
        load("org/name")
    with pytest.raises(PackageError, match="revision main from the Hub"):
        load("org/name", revision="main")
    with pytest.raises(PackageError, match=r"manifest\.json"):
        load(tmp_path)


def test_an_unreachable_hub_is_said_at_once(monkeypatch):
    import huggingface_hub

    def offline(self, *args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", offline)
    monkeypatch.setenv("HF_HUB_CACHE", "/nonexistent")
    with pytest.raises(PackageError, match=r"org/name: download: .*no route.*stage=package"):
        load("org/name", revision="a" * 40)


@pytest.mark.parametrize(("text", "name"), [("/home/me/models/x y", "x-y"), ("..", "model"), ("org/name", "name")])
def test_names_hold_nothing_of_a_path(text, name):
    assert plain_name(text) == name
