"""The prune stage on tiny pairs: what it writes, what it says, what it refuses."""

import io
import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from drafters.models.prune import load_pruned
from drafters.rounding import excess, logits_bound
from drafters.vocab.alignment import VocabMap, validate
from drafters.vocab.keep import BelowProtected, CountMismatch, EmptyCounts, KeepError, TooManyTokens
from pipeline.count.documents import Sample, Sampled
from pipeline.count.documents import write as write_sample
from pipeline.errors import ConfigError
from pipeline.runner.stage import Context
from pipeline.stages.prune import STAGE, PruneConfig

TARGET = ["<s>", "</s>", "<|user|>", *"abcdefgh"]  # 11 tokens
FOREIGN = [*"hgfed", "xyz", "</s>", "c"]  # other ids; "xyz" is no token of the target, and a and b are missing
TEMPLATE = "{% for m in messages %}{{ '<|user|>' + m['content'] }}{% endfor %}"
PROTECTED = [1, 2, 3]  # </s>, the template's <|user|>, and "a", an end of sequence by generation_config


def make_model(folder: Path, tokens: list[str], rows: int, seed: int) -> Path:
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    backend.decoder = decoders.ByteLevel()
    special = {"bos_token": "<s>"} if "<s>" in tokens else {}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", **special)
    if "<|user|>" in tokens:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
        tokenizer.chat_template = TEMPLATE
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokens.index("</s>"),
    )
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config.eos_token_id = [tokens.index("</s>"), 3] if "<|user|>" in tokens else None
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "target": make_model(root / "target", TARGET, 14, 0),  # three rows of padding
        "drafter": make_model(root / "drafter", TARGET, 12, 1),  # one row of padding
        "foreign": make_model(root / "foreign", FOREIGN, 8, 2),
    }


def counts(*values: int, rows: int) -> Tensor:
    return torch.tensor([*values, *[0] * (rows - len(values))])


TABLES = {
    "counts": counts(0, 4, 0, 0, 1, 2, 3, 40, 50, 0, 0, rows=14),
    "domains": torch.stack(
        [counts(0, 4, 0, 0, 0, 0, 3, 40, 50, rows=14), counts(0, 0, 0, 0, 1, 2, 0, 0, 0, rows=14)],
    ),
    "heldout_counts": counts(0, 0, 0, 0, 0, 0, 5, 0, 15, rows=14),
}


def run(folders, tmp_path, drafter="drafter", tables=TABLES, foreign=None, **settings) -> tuple[Path, dict, str]:
    """Run the stage; returns its directory, its report and what it printed."""
    count, out = tmp_path / "count", tmp_path / "out"
    count.mkdir(exist_ok=True)
    out.mkdir()
    save_file(tables, count / "counts.safetensors")
    (count / "report.json").write_text(
        json.dumps({"domains": ["code", "prose"], "law_positions": 50 if "law" in tables else 0})
    )
    pair = {"name": "tiny", "target": str(folders["target"]), "drafter": str(folders[drafter]), "foreign": foreign}
    cfg = OmegaConf.create({"pair": pair, "prune": OmegaConf.structured(PruneConfig(**settings))})
    said = io.StringIO()
    STAGE.run(Context(cfg, {"count": count}, out, Console(file=said, width=200)))
    return out, json.loads((out / "report.json").read_text()), said.getvalue()


def test_one_tokenizer(folders, tmp_path):
    out, report, said = run(folders, tmp_path, size=5)
    vocab = load_file(out / "vocab.safetensors")
    assert vocab["kept"].tolist() == [*PROTECTED, 7, 8]
    assert vocab["to_target"].tolist() == [*PROTECTED, 7, 8]
    assert vocab["to_drafter"].tolist() == [-1, 0, 1, 2, -1, -1, -1, 3, 4, *[-1] * 5]
    validate(VocabMap(vocab["to_target"], vocab["to_drafter"]))
    assert report == {
        "vocabulary": 14, "drafter_vocabulary": 12, "kept": 5, "protected": 3, "uncounted": 0,
        "coverage": 0.94, "heldout_coverage": 0.75, "drafter_coverage": 0.94, "differences": "",
        "domains": {"code": 94 / 97, "prose": 0.0}, "domain_tokens": {"code": 97, "prose": 3}, "law_positions": 0,
        "unseen": None, "warn_unseen": 0.02, "without_drafter_token": [], "warn_coverage": 0.8,
        "least_covered": {"domain": "prose", "coverage": 0.0},
        "curve": [[5, 0.94], [11, 1.0]], "head_bytes_full": 12 * 16 * 2, "head_bytes_kept": 5 * 16 * 2,
    }  # fmt: skip
    rows = [" ".join(line.split()) for line in said.splitlines()]
    assert [row for row in rows if row and not set(row) <= {"\u2500"}] == [
        "5 of 12 tokens kept, 94.0 % of the counted text covered",
        "held-out text: 75.0 % covered",
        "domain tokens counted text",
        "prose 3 0.0 %",
        "code 97 96.9 %",
        "warning: 0.0 % of the domain prose is covered, below prune.warn_coverage=0.8: the rest is never drafted; raise "
        "prune.size or prune.min_domain_coverage",
    ]


@pytest.mark.floats
def test_the_model_it_writes_is_the_drafter_with_a_short_head(folders, tmp_path):
    out, _, _ = run(folders, tmp_path, size=5)
    kept = load_file(out / "vocab.safetensors")["kept"]
    pruned = load_pruned(out / "model")
    assert pruned.dtype == torch.bfloat16  # as the drafter is stored
    full = AutoModelForCausalLM.from_pretrained(folders["drafter"], dtype=torch.float64)
    ids = torch.arange(11)[None]
    with torch.no_grad():
        expected, got = full(input_ids=ids).logits[..., kept], pruned.double()(input_ids=ids).logits
    assert excess(got, expected, logits_bound(pruned, ids)) <= 1
    assert torch.equal(pruned.get_output_embeddings().weight, full.get_output_embeddings().weight[kept])
    assert torch.equal(pruned.get_input_embeddings().weight, full.get_input_embeddings().weight)


def test_padding_is_no_token_and_cannot_be_kept(folders, tmp_path):
    out, report, said = run(folders, tmp_path, fraction=1.0)
    assert load_file(out / "vocab.safetensors")["kept"].tolist() == list(range(11))
    assert report["uncounted"] == 3  # <s>, g and h
    assert "3 of the kept never occur in it" in said
    (tmp_path / "again").mkdir()
    with pytest.raises(TooManyTokens, match="12 tokens were asked for, but only 11 can be kept"):
        run(folders, tmp_path / "again", size=12)


def test_a_foreign_drafter_is_ranked_by_its_own_tokens(folders, tmp_path):
    tables = TABLES | {
        "drafter_counts": torch.tensor([1, 2, 9, 40, 3, 30, 5, 10]),
        "drafter_heldout_counts": torch.tensor([0, 0, 0, 3, 0, 0, 0, 1]),
    }
    out, report, said = run(folders, tmp_path, "foreign", tables, foreign=True, size=3, warn_coverage=0.995)
    vocab = load_file(out / "vocab.safetensors")
    assert vocab["kept"].tolist() == [3, 6, 7]  # e, </s>, c; "xyz" counts 30 and has no target image
    assert vocab["to_target"].tolist() == [7, 1, 5]
    assert vocab["to_drafter"].tolist() == [-1, 1, -1, -1, -1, 2, -1, 0, *[-1] * 6]
    assert report["coverage"] == 46 / 100  # </s>, c and e among the target's own tokens
    assert report["heldout_coverage"] == 0.0  # f and h
    assert report["drafter_coverage"] == 0.55
    assert report["without_drafter_token"] == ["<|user|>", "a"]
    assert "3 of 8 tokens kept, 46.0 % of the counted text covered" in said
    assert "of the drafter's own tokens of that text, 55.0 % are kept" in said
    assert "warning: 46.0 % of the counted text is covered, below prune.warn_coverage=0.995" in said
    assert "all 7 tokens that can be kept cover 99.0 %, a drafter of the target's family more" in said
    assert "unknown to the drafter: <|user|>, a" in said
    assert report["domains"] == {"code": 44 / 97, "prose": 2 / 3}


def test_coverage_domains_and_protected_strings(folders, tmp_path):
    out, report, _ = run(folders, tmp_path, coverage=0.9, min_domain_coverage=0.6, protect=["h"])
    kept = load_file(out / "vocab.safetensors")["kept"].tolist()
    assert kept == [*PROTECTED, 5, 7, 8, 10]
    assert report["domains"]["prose"] == 2 / 3
    assert report["coverage"] == 0.96
    assert report["protected"] == 4


def test_the_default_keeps_a_quarter_of_what_can_be_kept(folders, tmp_path):
    _, report, _ = run(folders, tmp_path)
    assert report["kept"] == round(11 / 4) == report["protected"]


def test_a_second_run_writes_the_same_bytes(folders, tmp_path):
    (tmp_path / "again").mkdir()
    out, _, _ = run(folders, tmp_path, size=5)
    other, _, _ = run(folders, tmp_path / "again", size=5)
    names = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert Path("model/model.safetensors") in names
    assert names == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert all((out / name).read_bytes() == (other / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("changes", "settings", "error", "message"),
    [
        ({}, {"size": 2}, BelowProtected, "expected at least 3"),
        ({}, {"size": 4, "coverage": 0.5}, KeepError, "a size or a coverage"),
        ({"counts": torch.zeros(14, dtype=torch.int64)}, {"size": 4}, EmptyCounts, "all 12 counts are zero"),
        ({"counts": torch.ones(13, dtype=torch.int64)}, {"size": 4}, CountMismatch, r"counts must have shape \(14,\)"),
        ({}, {"size": 4, "protect": ["nowhere"]}, ValueError, "'nowhere'"),
    ],
)
def test_what_cannot_be_pruned_is_refused(folders, tmp_path, changes, settings, error, message):
    with pytest.raises(error, match=message):
        run(folders, tmp_path, tables=TABLES | changes, **settings)
    assert not (tmp_path / "out" / "report.json").exists()


@pytest.mark.parametrize(
    ("extra", "settings", "message"),
    [
        ({}, {}, r"drafter_counts must have shape \(8,\), the drafter's vocabulary, got none.*pair\.foreign=true"),
        ({"drafter_counts": torch.ones(9, dtype=torch.int64)}, {}, r"got \(9,\)"),
        ({"drafter_counts": torch.ones(8, dtype=torch.int64)}, {"min_domain_coverage": 0.5}, "not split by domain"),
    ],
)
def test_counts_that_do_not_fit_a_foreign_drafter_are_refused(folders, tmp_path, extra, settings, message):
    with pytest.raises(CountMismatch, match=message):
        run(folders, tmp_path, "foreign", TABLES | extra, foreign=True, size=3, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 4, "coverage": 0.5}, r"prune\.size=4 and prune\.coverage=0\.5: give one"),
        ({"size": 0}, r"prune\.size=0"),
        ({"coverage": 97.9}, r"prune\.coverage=97\.9: expected a share"),
        ({"fraction": 0.0}, r"prune\.fraction=0\.0"),
        ({"min_domain_coverage": -0.1}, r"prune\.min_domain_coverage=-0\.1"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_loaded(settings, message):
    STAGE.check(OmegaConf.create({"prune": OmegaConf.structured(PruneConfig())}))
    with pytest.raises(ConfigError, match=message):
        STAGE.check(OmegaConf.create({"prune": OmegaConf.structured(PruneConfig(**settings))}))


def test_more_tokens_than_there_are_is_refused_before_anything_runs(folders):
    pair = {"target": str(folders["target"]), "drafter": str(folders["drafter"])}
    cfg = OmegaConf.create({"prune": OmegaConf.structured(PruneConfig(size=13)), "pair": pair})
    with pytest.raises(ConfigError, match=r"prune\.size=13: the drafter has 12 tokens; set it to at most 12"):
        STAGE.check(cfg)
    cfg.pair.drafter = "org/on-the-hub"  # known when it is opened
    STAGE.check(cfg)


def test_the_targets_law_fills_what_was_not_counted(folders, tmp_path):
    law = torch.zeros(14, dtype=torch.float64)
    law[9], law[10], law[6] = 0.4, 0.3, 0.001  # g, h, d
    out, report, said = run(folders, tmp_path, tables=TABLES | {"law": law}, size=6)
    assert load_file(out / "vocab.safetensors")["kept"].tolist() == [*PROTECTED, 7, 8, 9]  # worth 4 counts; d has 3
    assert report["uncounted"] == 1
    assert "1 of the kept never occur in the counted text: chosen by the target's own law" in said


def test_unseen_text_is_judged_and_more_is_asked_for(folders, tmp_path):
    made: Sample[Tensor] = Sample()
    texts = [[7, 8, 7, 8, 4], [7, 8, 5, 5, 5], [8, 7, 7, 7, 6], [7, 9, 9, 8, 8], [10, 10, 8, 7, 7], [7, 8, 8, 7, 8]]
    for number, ids in enumerate(texts):
        made.offer(Sampled(number, "train", "code", torch.tensor(ids)), 20)
    total = torch.bincount(torch.tensor(texts).flatten(), minlength=14)
    tables = {"counts": total, "domains": torch.stack([total, total * 0]), "heldout_counts": total * 0}
    (tmp_path / "count").mkdir()
    write_sample(tmp_path / "count", made, lambda ids: ids)
    _, report, said = run(folders, tmp_path, tables=tables, size=5)
    assert report["unseen"]["mass"]["value"] == pytest.approx(9 / 30)  # d, e, f, g and h are of one document each
    assert report["unseen"]["coverage"]["value"] == pytest.approx(21 / 30)
    assert "unseen text: 70.0 % (95 %: " in said
    assert "judged on 6 documents" in said
    assert "what is covered of unseen text is known within " in said
    assert "give corpus.path more text" in said


def test_held_out_text_without_tokens_is_no_text(folders, tmp_path):
    tables = TABLES | {"heldout_counts": torch.zeros(14, dtype=torch.int64)}
    _, report, said = run(folders, tmp_path, tables=tables, size=5)
    assert report["heldout_coverage"] is None
    assert "held-out" not in said


def test_a_foreign_drafters_domains_are_its_own(folders, tmp_path):
    domains = torch.tensor([[0, 0, 0, 40, 0, 0, 5, 10], [1, 2, 9, 0, 3, 30, 0, 0]])
    tables = TABLES | {"drafter_counts": domains.sum(0), "drafter_domains": domains}
    out, report, _ = run(folders, tmp_path, "foreign", tables, foreign=True, size=3, min_domain_coverage=0.2)
    assert load_file(out / "vocab.safetensors")["kept"].tolist() == [2, 3, 6]
    assert report["domains"] == {"code": 94 / 97, "prose": 0.0}  # shares are of the target's tokens


def test_the_key_covers_both_models_at_their_revisions():
    pair = {"target": "org/big", "target_revision": "a" * 40, "drafter": "some/folder", "drafter_revision": None}
    cfg = OmegaConf.create({"pair": pair})
    assert STAGE.external(cfg) == {"target": f"org/big@{'a' * 40}", "drafter": "some/folder"}
    assert STAGE.inputs(cfg) == {"count": "count"}
