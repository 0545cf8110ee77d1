"""load_pair on the real models and on folders that must be refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from drafters.engine.decode import autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import full_map, pair_of
from drafters.models import devices
from drafters.models.devices import DeviceError, choose_device, choose_dtype, must_shard
from drafters.models.pair import PairError, context_length, eos_ids, load_pair, open_checkpoint, pair_settings
from drafters.package_error import PackageError
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.rounding import excess, logits_bound
from drafters.samplers.catalog import build
from drafters.stop import catalog as stops
from drafters.vocab.counting.counts import count_tokens
from tests.data import DATA, needs

MODELS = DATA / "models"
pytestmark = needs("models")
TARGET, SAME, FOREIGN = MODELS / "tinystories-bit-1M", MODELS / "stories260K", MODELS / "babyllama-105"


@pytest.fixture(scope="module")
def same():
    return load_pair(target=TARGET, drafter=SAME, device="cpu")


@pytest.fixture(scope="module")
def foreign():
    return load_pair({"name": "x", "target": str(TARGET), "drafter": str(FOREIGN), "foreign": True}, device="cpu")


@pytest.fixture
def folder(tmp_path):
    """A copy of a real model folder, to break."""
    return Path(shutil.copytree(SAME, tmp_path / "model", copy_function=shutil.copyfile))


def edit(path, **changes):
    data = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))


def checkpoint(folder):
    return open_checkpoint("drafter", pair_settings(target="x", drafter=str(folder)))


def test_one_tokenizer(same):
    assert (same.vocab, same.feed, same.foreign) == (None, None, False)
    assert same.vocabulary == 512
    assert same.eos == (1, 2)
    assert same.dtypes == (torch.float32, torch.float32)
    assert same.context_lengths == (512, 512)
    assert same.ids == (str(TARGET), str(SAME))
    assert same.revisions == (None, None)
    assert same.target_tokenizer.pad_token_id is None
    assert not any(parameter.requires_grad for parameter in same.target.parameters())
    assert not same.drafter.training
    ids = torch.tensor([1, 5, 400])
    assert same.drafter_prompt(ids) is ids


def test_two_tokenizers(foreign):
    assert foreign.foreign
    assert foreign.context_lengths == (512, 256)
    assert foreign.vocab.to_target.shape == (105,)
    assert foreign.vocab.to_drafter.shape == (512,)
    ours, theirs = foreign.target_tokenizer, foreign.drafter_tokenizer
    assert theirs.convert_ids_to_tokens(int(foreign.vocab.to_drafter[ours.convert_tokens_to_ids("e")])) == "e"
    assert int(foreign.vocab.to_drafter[ours.eos_token_id]) == theirs.eos_token_id


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Once upon a time", "Once upon a time"),
        ("a 日本 b", "a  b"),
        ("日本", ""),
        ("", ""),
        ('"Hi!" he said', '"Hi!" he said'),
    ],
)
def test_a_prompt_is_encoded_by_the_drafters_own_tokenizer(foreign, text, seen):
    prompt = foreign.drafter_prompt(torch.tensor(foreign.target_tokenizer.encode(text)))
    assert prompt.dtype == torch.int64
    assert prompt[0] == foreign.drafter_tokenizer.bos_token_id
    assert prompt.tolist().count(1) == 1
    words = foreign.drafter_tokenizer.decode(prompt[1:], skip_special_tokens=False).replace("<unk>", "")
    assert words.split() == seen.split()


def test_specials_go_by_role(foreign):
    ids = [1, *foreign.target_tokenizer.encode("a", add_special_tokens=False), 2]
    ids += [1, *foreign.target_tokenizer.encode("b", add_special_tokens=False)]
    prompt = foreign.drafter_prompt(torch.tensor(ids)).tolist()
    assert [token for token in prompt if token in (1, 2)] == [1, 2, 1]


def test_foreign_is_found_out_or_checked():
    assert load_pair(target=TARGET, drafter=FOREIGN, device="cpu").foreign
    assert not load_pair(target=TARGET, drafter=SAME, foreign=None, device="cpu").foreign
    with pytest.warns(UserWarning, match=r"ids spell other text, first id 3: '<0x00>' of the target, '▁'"):
        obeyed = load_pair(target=TARGET, drafter=FOREIGN, foreign=False, device="cpu")
    assert not obeyed.foreign
    assert obeyed.drafter(torch.tensor([[511]])).logits.shape[-1] == 105  # every id of the target can be read


def padded(folder, rows):
    """Heads as in the Qwen2.5 family: one tokenizer, vocabularies padded to different sizes."""
    tensors = load_file(folder / "model.safetensors")
    table = tensors["model.embed_tokens.weight"]
    tensors["model.embed_tokens.weight"] = torch.cat([table, torch.zeros(rows, table.shape[1])])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    edit(folder / "config.json", vocab_size=512 + rows)


def test_heads_of_different_lengths_need_a_map(folder):
    padded(folder, 8)
    pair = load_pair(target=TARGET, drafter=folder, foreign=False, device="cpu")
    assert not pair.foreign
    assert pair.feed is None
    assert pair.vocab.to_target.tolist() == [*range(512), *[-1] * 8]
    assert pair.vocab.to_drafter.tolist() == list(range(512))


def test_a_drafter_padded_less_reads_what_the_longer_head_says(folder, same):
    """A target can say its padding; the drafter must not be asked for an embedding it has not."""
    padded(folder, 8)
    pair = load_pair(target=folder, drafter=TARGET, device="cpu")
    assert pair.vocab.to_target.tolist() == list(range(512))
    assert pair.vocab.to_drafter.tolist() == [*range(512), *[-1] * 8]
    ids = torch.tensor([[1, 5, 400]])
    assert torch.isfinite(pair.drafter(torch.tensor([[1, 519]])).logits).all()
    assert torch.equal(pair.drafter(ids).logits, same.target(ids).logits)  # as before
    prompts, greedy = [torch.tensor([1, 519, 400])], Limits(12, Sampling(0.0))
    coins = KeyedCoins(0, torch.arange(1))
    drafted = speculative(pair_of(pair), build("tli", full_map(pair)), stops.build("static"), prompts, coins, greedy)
    assert torch.equal(drafted.tokens[0], autoregressive(pair_of(pair), prompts, coins, greedy).tokens[0])


def test_settings_come_from_a_config_or_by_name():
    with pytest.raises(PairError, match=r"unknown pair setting 'traget'; .*did you mean 'target'"):
        load_pair({"traget": "x"})
    with pytest.raises(PairError, match=r"pair\.drafter is not set"):
        load_pair({"target": "x", "drafter": None})
    assert pair_settings({"target": "a", "drafter": "b"}, target="c")["target"] == "c"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"drafter": "/nowhere/at/all"}, r"no such folder.*pair\.drafter=DIR"),
        ({"drafter": "runs/package/0"}, r"no such folder.*pair\.drafter=DIR"),
        ({"drafter": "drafters/zoo/nonesuch"}, r"no such folder"),
    ],
)
def test_where_models_are(fields, message):
    with pytest.raises(PackageError, match=message):
        load_pair(target=TARGET, device="cpu", **fields)


def test_a_hub_that_cannot_be_reached(monkeypatch):
    import huggingface_hub

    def offline(self, *args, **kwargs):
        raise ConnectionError("no route")

    for question in ("repo_info", "model_info"):
        monkeypatch.setattr(huggingface_hub.HfApi, question, offline)
    with pytest.raises(PackageError, match=r"org/name: download: .*no route.*pair\.target=DIR") as caught:
        load_pair(target="org/name", target_revision="0" * 40, drafter=SAME)
    assert "0" * 40 in caught.value.expected


@pytest.mark.parametrize(
    ("file", "change", "field"),
    [
        ("config.json", {"auto_map": {"AutoModel": "evil.Model"}, "model_type": "evil"}, "auto_map"),
        ("config.json", {"_attn_implementation_internal": "evil/kernel"}, "_attn_implementation_internal"),
        ("config.json", {"_attn_implementation": "evil/kernel"}, "_attn_implementation"),
        ("config.json", {"attn_implementation": "kernels-community/x"}, "attn_implementation"),
        ("config.json", {"custom_pipelines": {"a": {}}}, "custom_pipelines"),
        ("config.json", {"transformers_weights": "../x.safetensors"}, "transformers_weights"),
        ("config.json", {"text_config": {"auto_map": {"a": "b"}}}, "text_config.auto_map"),
        ("config.json", {"vocab_size": 10**12}, "vocab_size"),
        ("config.json", {"model_type": "nonesuch"}, "model_type"),
        ("config.json", {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "architectures"),
        ("config.json", {"architectures": ["LlamaForSequenceClassification"]}, "architectures"),
        (
            "tokenizer_config.json",
            {"auto_map": {"AutoTokenizer": ["evil.T", None]}, "tokenizer_class": "T"},
            "auto_map",
        ),
        ("generation_config.json", {"custom_generate": "evil"}, "custom_generate"),
    ],
)
def test_folders_that_reach_for_code_or_are_no_causal_lm(folder, file, change, field):
    edit(folder / file, **change)
    with pytest.raises(PackageError) as caught:
        checkpoint(folder)
    assert (caught.value.file, caught.value.field) == (file, field)


def test_harmless_keys_of_real_folders_pass(folder):
    edit(folder / "config.json", _name_or_path="a/b", auto_map={}, torch_dtype="float32", unknown_key=1)
    edit(folder / "tokenizer_config.json", x={"__type": "AddedToken", "content": "a"})
    assert checkpoint(folder).vocabulary == 512


def test_other_weights_than_safetensors(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(PackageError, match=r"weights as safetensors, got pytorch_model\.bin\. Convert"):
        checkpoint(folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "shard-00001-model-00001-of-00001.safetensors"])
def test_adapters_and_distributed_checkpoints(folder, name):
    (folder / name).write_text("{}")
    with pytest.raises(PackageError, match="plain model folder"):
        checkpoint(folder)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/x.safetensors", "a/b.safetensors", "model.bin", 3])
def test_an_index_names_files_of_its_folder_only(folder, shard):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(PackageError) as caught:
        checkpoint(folder)
    assert caught.value.file == "model.safetensors.index.json"
    assert caught.value.field == "weight_map.a"


@pytest.mark.floats
def test_sharded_weights_load(folder, same):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        shard = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    pair = load_pair(target=TARGET, drafter=folder, device="cpu")
    ids = torch.tensor([[1, 5, 9]])
    expected = same.drafter.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in pair.drafter.state_dict().items())
    bound = logits_bound(
        pair.drafter, ids
    )  # shards map their weights at other addresses, where products round otherwise
    assert excess(pair.drafter(ids).logits, same.drafter(ids).logits, bound) <= 1


def test_a_snapshot_of_the_hubs_cache_is_a_folder_like_any_other(tmp_path, same):
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / ("0" * 40), tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in SAME.iterdir():
        shutil.copyfile(path, blobs / path.name)
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert checkpoint(snapshot).parameters == sum(p.numel() for p in same.drafter.parameters())
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(SAME / "config.json")
    with pytest.raises(PackageError, match="link"):
        checkpoint(snapshot)


def test_missing_weights_are_not_left_random(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.norm.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PackageError, match=r"model\.norm\.weight"):
        load_pair(target=TARGET, drafter=folder, device="cpu")


def test_weights_of_another_shape(folder):
    edit(folder / "config.json", intermediate_size=171)
    with pytest.raises(PackageError, match="15 tensors missing or of another shape"):
        load_pair(target=TARGET, drafter=folder, device="cpu")


def test_a_tokenizer_larger_than_the_embedding(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(SAME / name, folder / name)
    shutil.copyfile(FOREIGN / "config.json", folder / "config.json")
    shutil.copyfile(FOREIGN / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(PairError, match=r"uses ids up to 511, but the model has 105 embedding rows.*pair\.drafter"):
        checkpoint(folder)


def test_an_added_token_without_a_row_is_counted_out_unless_the_template_writes_it(folder):
    """As Gemma 3 1B's token for images."""
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    data["added_tokens"].append({"id": 512, "content": "<image>", **flags})
    path.write_text(json.dumps(data))
    pair = load_pair(target=TARGET, drafter=folder, device="cpu")
    assert (pair.vocab, pair.foreign) == (None, False)
    found = checkpoint(folder)
    counts = count_tokens(found.tokenizer, [("d", "a <image> b")], vocabulary=found.vocabulary, workers=1)
    assert (len(counts.counts), counts.tokens > 0) == (512, True)
    template = "{% for message in messages %}<image>{{ message['content'] }}{% endfor %}"
    edit(folder / "tokenizer_config.json", chat_template=template)
    with pytest.raises(
        PairError, match=r"chat template of the drafter .* writes '<image>', id 512, but .* 512 embedding rows"
    ):
        checkpoint(folder)


def test_ends_of_text_are_those_of_transformers_generate(folder):
    edit(folder / "generation_config.json", eos_token_id=[7, 1])
    edit(folder / "config.json", eos_token_id=9)
    assert checkpoint(folder).eos == (7, 1)
    (folder / "generation_config.json").unlink()
    assert checkpoint(folder).eos == (9,)
    edit(folder / "config.json", eos_token_id=None)
    assert checkpoint(folder).eos == (2,)
    edit(folder / "config.json", eos_token_id=512)
    with pytest.raises(PairError, match=r"holds \[512\], expected ids from 0 to 511"):
        checkpoint(folder)


def test_no_end_of_text_at_all():
    from transformers import GPT2Config

    config = GPT2Config(eos_token_id=None)
    assert eos_ids(config) == ()
    assert context_length(config) == 1024


def test_devices_and_dtypes(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == cpu
    for name, message in (("tpu", "one of auto, cpu, cuda, mps"), ("cuda", "sees none here: use device=auto")):
        with pytest.raises(DeviceError, match=message):
            choose_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == cuda
    assert choose_dtype("auto", cpu) == choose_dtype("fp32", cuda) == torch.float32
    assert choose_dtype("auto", cuda) == torch.bfloat16
    assert choose_dtype("fast", cuda) == torch.bfloat16
    assert choose_dtype("fast", torch.device("mps")) == torch.float32
    for found, number in (
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx2": True}, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert choose_dtype("fast", cpu) == number
    with pytest.raises(DeviceError, match="got 'fp16'"):
        choose_dtype("fp16", cpu)


def test_large_targets_are_spread_when_accelerate_is_there(monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.setattr(devices, "free_bytes", lambda device: 10 << 30)
    assert not must_shard(6 << 30, cuda)
    assert not must_shard(60 << 30, torch.device("cpu"))
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"needs 10.0 GiB, the first GPU has 10.0 GiB free.*pip install accelerate"):
        must_shard(10 << 30, cuda)
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: object())
    assert must_shard(10 << 30, cuda)


@pytest.mark.gpu
def test_on_a_gpu():
    pair = load_pair(target=TARGET, drafter=SAME)
    assert pair.dtypes == (torch.bfloat16, torch.bfloat16)
    assert pair.target.device.type == "cuda"
