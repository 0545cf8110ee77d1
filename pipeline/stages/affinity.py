"""affinity: the RDK prior of a pruned drafter: where the mass of its kept tokens should go, and how much of it.

Text is read under teacher forcing in three parts, split by document: sums for the priors come from the first, the share
given away is chosen on the second, and what that is worth is measured on the third, untouched, against TLI with a paired
bootstrap. If the share that wins is 0, no prior is written and TLI stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save
from torch import Tensor

from drafters.affinity import AffinityPrior, Statistics, acceptance_by_share, cooccurrence_prior, mean_prior
from drafters.devices import choose_device, choose_dtype
from drafters.package.model_folder import open_model, quiet
from drafters.pair import open_checkpoint, pair_settings
from drafters.probs import Sampling, warp
from drafters.prune import load_pruned
from drafters.samplers.proposal.tli import TLI
from drafters.vocab.alignment import VocabMap
from pipeline import corpus
from pipeline.laws import pieces, windows
from pipeline.stage import Context, Stage, write_atomic

PRIOR, REPORT = "affinity.safetensors", "report.json"
SHARES = torch.tensor([0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8])
PARTS = {"fit": 0.6, "calibrate": 0.2, "test": 0.2}  # of the tokens
BOOTSTRAPS = 2000


@dataclass
class AffinityConfig:
    """How much text is read, and what a prior may hold."""

    enabled: bool = True
    tokens: int = 100_000  # of text, all three parts together
    window: int = 256  # tokens read at once
    windows_per_document: int = 2
    neighbours: int = 32  # K
    min_documents: int = 5  # that a pruned token must occur in to receive anything


@dataclass(frozen=True)
class _Reading:
    """What a stage reads: the models' laws on windows of documents."""

    laws: Callable[[list[tuple[int, Tensor]]], Iterator[tuple[int, Tensor, Tensor, Tensor]]]
    vocab: VocabMap
    sampling: Sampling


def run(context: Context) -> None:
    """Estimate, calibrate, measure; write the prior if it wins, and the report either way."""
    settings, folder = context.cfg.affinity, context.inputs["prune"]
    pair = pair_settings(context.cfg.pair)
    maps = load_file(folder / "vocab.safetensors")
    vocab = VocabMap(maps["to_target"], maps["to_drafter"])
    target, drafter = open_checkpoint("target", pair), open_checkpoint("drafter", pair)
    own = target.tokenizer.get_vocab() == drafter.tokenizer.get_vocab()
    if not own or not bool((vocab.to_drafter < 0).any()):
        reason = "nothing was pruned" if own else "the tokenizers differ: laws cannot be compared token by token"
        _finish(context, None, {"prior": None, "reason": reason})
        return
    texts = _texts(context.cfg, target.tokenizer, settings)
    where = choose_device(context.cfg.device)
    number = choose_dtype(context.cfg.dtype, where)
    with quiet(always=True):
        big = open_model(target.source, target.config, number, where)
        small = load_pruned(folder / "model", dtype=number).to(where).eval()
    package = context.cfg.package
    sampling = Sampling(package.temperature, package.top_k, package.top_p)

    def laws(chosen: list[tuple[int, Tensor]]) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        for (document, ids), piece in zip(
            chosen, pieces(big, small, (ids for _, ids in chosen), sampling), strict=True
        ):
            yield document, ids, piece.p.cpu(), warp(piece.logits, sampling).cpu()

    reading = _Reading(laws, vocab, sampling)
    total = sum(len(part) for part in texts.values())
    context.console.print(f"reading {total} windows of up to {settings.window} tokens with both models")
    with context.progress("Fitting priors", total=total) as bar:
        priors = _priors(reading, texts["fit"], settings, bar.advance)
        chosen, share = _calibrated(reading, texts["calibrate"], priors, bar.advance)
        measured = _measured(reading, texts["test"], priors, bar.advance, chosen, share)
    _conclude(context, priors, chosen, share, measured)


def _texts(cfg: DictConfig, tokenizer: Any, settings: DictConfig) -> dict[str, list[tuple[int, Tensor]]]:
    """(document, window) of each part, dealt out by document until the parts have their tokens."""
    found: dict[str, list[tuple[int, Tensor]]] = {part: [] for part in PARTS}
    read = dict.fromkeys(PARTS, 0)
    documents = corpus.documents(corpus.corpus_config(cfg), "train")
    for number, document in enumerate(documents):
        lacking = {part: PARTS[part] * settings.tokens - read[part] for part in PARTS}
        part = max(lacking, key=lacking.__getitem__)
        if lacking[part] <= 0:
            break
        ids = tokenizer(document.text[: 40 * settings.window], add_special_tokens=False)["input_ids"]
        for _, window in windows([torch.tensor(ids)], settings.window, settings.windows_per_document):
            found[part].append((number, window))
            read[part] += len(window)
    return found


def _priors(
    reading: _Reading, text: list[tuple[int, Tensor]], settings: DictConfig, advance: Callable[[int], None]
) -> dict[str, AffinityPrior]:
    """The candidates by name."""
    statistics = Statistics(reading.vocab.to_drafter.shape[0])
    held: dict[int, list[Tensor]] = {}
    for document, ids, p, q in reading.laws(text):
        statistics.add(p, q, reading.vocab)
        held.setdefault(document, []).append(ids)
        advance(1)
    for parts in held.values():
        statistics.seen(torch.cat(parts))
    minimum = min(settings.min_documents, max(1, len(held) // 4))
    found = {
        "mean": mean_prior(statistics, reading.vocab, minimum),
        "cooccurrence": cooccurrence_prior(statistics, reading.vocab, minimum, settings.neighbours),
    }
    return {name: prior for name, prior in found.items() if prior is not None}


def _spread(vocab: VocabMap, prior: AffinityPrior, q: Tensor) -> tuple[Tensor, Tensor]:
    """q' over V, and all of q' given away by the prior: A^T q' as one sparse product, (n, D) -> (n, V) each."""
    kept = TLI(vocab).lift(q)
    if prior.index.shape[0] == 1:
        given = q.new_zeros(kept.shape).index_copy_(-1, prior.index[0].long(), prior.weight.expand(len(q), -1))
        return kept, given * q.sum(-1, keepdim=True)
    rows, neighbours = prior.index.shape
    where = torch.stack([prior.index.long().flatten(), torch.arange(rows).repeat_interleave(neighbours)])
    matrix = torch.sparse_coo_tensor(where, prior.weight.flatten(), (kept.shape[-1], rows)).coalesce()
    return kept, torch.sparse.mm(matrix, q.T.contiguous()).T


def _calibrated(
    reading: _Reading,
    text: list[tuple[int, Tensor]],
    priors: dict[str, AffinityPrior],
    advance: Callable[[int], None],
) -> tuple[str | None, float]:
    """The prior and the share of the best mean acceptance; share 0 where none beats TLI."""
    sums = {name: torch.zeros(len(SHARES), dtype=torch.float64) for name in priors}
    for _, ids, p, q in reading.laws(text):
        for name, prior in priors.items():
            sums[name] += acceptance_by_share(p, *_spread(reading.vocab, prior, q), SHARES) * len(ids)
        advance(1)
    best = max(priors, key=lambda name: float(sums[name].max()), default=None)
    if best is None:
        return None, 0.0
    share = float(SHARES[int(sums[best].argmax())])
    return (best, share) if share > 0 else (None, 0.0)


def _measured(
    reading: _Reading,
    text: list[tuple[int, Tensor]],
    priors: dict[str, AffinityPrior],
    advance: Callable[[int], None],
    chosen: str | None,
    share: float,
) -> dict[int, Tensor]:
    """Per document: fp64 (3,) tokens, summed acceptance of TLI, and with the prior."""
    found: dict[int, Tensor] = {}
    shares = torch.tensor([0.0, share])
    for document, ids, p, q in reading.laws(text):
        advance(1)
        if chosen is not None:
            pair = acceptance_by_share(p, *_spread(reading.vocab, priors[chosen], q), shares)
            row = torch.cat([torch.ones(1), pair]) * len(ids)
            found[document] = found.get(document, torch.zeros(3, dtype=torch.float64)) + row
    return found


def paired_gain(documents: Tensor, seed: int = 0) -> tuple[float, float, float]:
    """Gain in acceptance with its 95 % interval, from rows (tokens, sum before, sum after) of documents, resampled whole."""
    rows = documents.numpy()
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, len(rows), (BOOTSTRAPS, len(rows)))
    tokens, before, after = rows[picks].sum(1).T
    low, high = np.quantile((after - before) / tokens, [0.025, 0.975])
    return float((rows[:, 2] - rows[:, 1]).sum() / rows[:, 0].sum()), float(low), float(high)


def _conclude(
    context: Context, priors: dict[str, AffinityPrior], chosen: str | None, share: float, measured: dict[int, Tensor]
) -> None:
    """Say what won, and write it."""
    if chosen is None or not measured:
        _finish(context, None, {"prior": None, "reason": "no prior was better than TLI on the calibration text"})
        return
    rows = torch.stack(list(measured.values()))
    gain, low, high = paired_gain(rows, int(context.cfg.seed))
    tli, rdk = (float(rows[:, column].sum() / rows[:, 0].sum()) for column in (1, 2))
    prior = priors[chosen]
    report = {
        "prior": chosen, "share": share, "neighbours": prior.index.shape[1], "donors": prior.share.shape[0],
        "acceptance_tli": tli, "acceptance_rdk": rdk, "gain": gain, "gain_low": low, "gain_high": high,
        "test_tokens": int(rows[:, 0].sum()), "test_documents": len(rows),
    }  # fmt: skip
    _finish(context, AffinityPrior(prior.index, prior.weight, torch.full_like(prior.share, share)), report)


def _finish(context: Context, prior: AffinityPrior | None, report: dict[str, Any]) -> None:
    """Write the prior, if there is one, and the report."""
    if prior is not None:
        tensors = {"index": prior.index, "weight": prior.weight, "share": prior.share}
        write_atomic(context.out / PRIOR, save({name: tensor.contiguous() for name, tensor in tensors.items()}))
        context.console.print(
            f"prior '{report['prior']}' gives {report['share']:.0%} away: acceptance {report['acceptance_tli']:.3f} -> "
            f"{report['acceptance_rdk']:.3f} on unseen text (gain {report['gain']:+.3f}, 95 % "
            f"{report['gain_low']:+.3f} to {report['gain_high']:+.3f})"
        )
    else:
        context.console.print(f"no prior: {report['reason']}; sampler tli stays, rdk has nothing to do")
    write_atomic(context.out / REPORT, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())


def key_config(cfg: DictConfig) -> dict[str, Any]:
    """The stage's settings, the sampling that will be served, the text and the seed."""
    own: dict[str, Any] = OmegaConf.to_container(cfg.affinity, resolve=True)  # type: ignore[assignment]
    own.pop("enabled")
    served = {key: cfg.package[key] for key in ("temperature", "top_k", "top_p")}
    return {**own, **served, "corpus": corpus.key_values(corpus.corpus_config(cfg)), "seed": int(cfg.seed)}


def external(cfg: DictConfig) -> dict[str, str]:
    """The target and the text; the drafter comes through prune."""
    revision = cfg.pair.get("target_revision")
    where = f"{cfg.pair.target}@{revision}" if revision else str(cfg.pair.target)
    return {"target": where, **corpus.external(corpus.corpus_config(cfg))}


STAGE = Stage(name="affinity", run=run, inputs=lambda cfg: {"prune": "prune"}, config=key_config, external=external)
