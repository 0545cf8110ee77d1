"""Counts of the target's own continuations, which are ids already, and the laws by which the target wrote some of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from drafters.models.devices import choose_device, choose_dtype
from drafters.models.model_folder import open_model, quiet
from drafters.models.pair import Checkpoint
from drafters.probs import Sampling
from pipeline.config.settings import plain
from pipeline.count.documents import Sample, Sampled
from pipeline.count.law import expected_counts, read_by_law
from pipeline.count.shards import Totals, utf8_bytes
from pipeline.generate.target import VLLM
from pipeline.runner.stage import Context
from pipeline.text import generations
from pipeline.text.corpus import Split
from pipeline.text.domains import script_of

HELD_OUT_EVERY = 20  # as many as of a corpus, 5 %


@dataclass(frozen=True)
class Request:
    """A continuation of the target's."""

    number: int
    new: Tensor  # int64 (n,)
    text: str
    domain: str  # of its prompt; where nobody says it, the script it is written in

    @property
    def split(self) -> Split:
        """Every twentieth is held out."""
        return "heldout" if self.number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 else "train"


def requests(folder: Path, tokenizer: PreTrainedTokenizerBase) -> Iterator[Request]:
    """The continuations of a finished `generate` directory, as text without special tokens besides."""
    labels = generations.domains(folder)
    for number, (_, new) in enumerate(generations.read(folder)):
        text = tokenizer.decode(new.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        yield Request(number, new, text, (labels[number] if labels else "") or script_of(text))


def count_ids(folder: Path, side: Checkpoint, sample: Sample[Tensor], law_tokens: int) -> tuple[Totals, list[int]]:
    """Count the continuations, of the prompts nothing, and take the `sample`; returns the requests that the target will read, too."""
    totals, every = Totals(side.vocabulary, methods={"ids": ""}), list(requests(folder, side.tokenizer))
    lengths, held = [len(request.new) for request in every], [request.split == "heldout" for request in every]
    chosen = read_by_law(lengths, held, law_tokens)
    for request in every:
        totals.add(request.split, request.domain, torch.bincount(request.new, minlength=side.vocabulary))
        totals.documents[request.split] += 1
        totals.bytes[request.split] += utf8_bytes(request.text)
        document = Sampled(request.number, request.split, request.domain, request.new, chosen[request.number])
        sample.offer(document, 4 * len(request.new))
    return totals, [number for number, read in enumerate(chosen) if read]


def law_tokens(cfg: DictConfig) -> int:
    """How many tokens the target reads once more: none where a server held it, as it need not fit here."""
    behind_server = cfg.count.source != "generations" or cfg.generate.backend == VLLM
    return 0 if behind_server else int(cfg.count.law_tokens)


def law_key(cfg: DictConfig) -> dict[str, object]:
    """What the law depends on beside the text: how many tokens are read, and the sampling."""
    tokens = law_tokens(cfg)
    return {"law_tokens": tokens} | ({"sampling": plain(_sampling(cfg).__dict__)} if tokens else {})


def read_law(context: Context, target: Checkpoint, numbers: list[int]) -> tuple[Tensor, int]:
    """Let the target read some requests: the tokens its laws expect there, float64 (V,), and at how many positions."""
    cfg = context.cfg
    wanted = set(numbers)
    pairs = enumerate(generations.read(context.inputs["generate"]))
    chosen = [pair for number, pair in pairs if number in wanted and len(pair[1])]
    positions = sum(len(new) for _, new in chosen)
    where = choose_device(cfg.device)
    with context.progress("Reading the target's law", positions, "tokens") as bar, quiet(always=True):
        model = open_model(target.source, target.config, choose_dtype(cfg.dtype, where), where)
        return expected_counts(model, chosen, _sampling(cfg), bar.advance), positions


def _sampling(cfg: DictConfig) -> Sampling:
    return Sampling(*(cfg.generate[name] for name in ("temperature", "top_k", "top_p")))
