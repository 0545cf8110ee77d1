"""Counts of the target's own continuations, which are ids already, and the laws by which the target wrote some of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from drafters.models.devices import choose_device, choose_dtype, must_shard
from drafters.models.model_folder import open_model, quiet
from drafters.models.pair import Checkpoint
from drafters.probs import Sampling
from pipeline.count.documents import Sample, Sampled
from pipeline.count.law import expected_counts, read_by_law
from pipeline.count.shards import Totals, utf8_bytes
from pipeline.runner.stage import Workspace
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


def count_ids(folder: Path, side: Checkpoint, sample: Sample[str | Tensor], law_tokens: int) -> tuple[Totals, set[int]]:
    """Count the continuations, of the prompts nothing, and take the `sample`; returns the requests that the target will read, too."""
    totals, every = Totals(side.vocabulary, methods={"ids": ""}), list(requests(folder, side.tokenizer))
    lengths, held = [len(request.new) for request in every], [request.split == "heldout" for request in every]
    chosen = read_by_law(lengths, held, law_tokens)
    for request in every:
        totals.add(request.split, request.domain, torch.bincount(request.new, minlength=side.vocabulary))
        totals.documents[request.split] += 1
        totals.bytes[request.split] += utf8_bytes(request.text)
        document: Sampled[str | Tensor] = Sampled(
            request.number, request.split, request.domain, request.new, chosen[request.number]
        )
        sample.offer(document, 4 * len(request.new))
    return totals, {number for number, read in enumerate(chosen) if read}


@dataclass(frozen=True)
class Rereading:
    """How the target reads its own text again."""

    tokens: int  # about as many; 0: it does not
    sampling: Sampling  # by which it was written
    device: str
    dtype: str


def read_law(
    work: Workspace, folder: Path, target: Checkpoint, numbers: Collection[int], how: Rereading
) -> tuple[Tensor, int]:
    """Let the target read some requests: the tokens its laws expect there, float64 (V,), and at how many positions."""
    pairs = enumerate(generations.read(folder))
    chosen = [pair for number, pair in pairs if number in numbers and len(pair[1])]
    positions, where = sum(len(new) for _, new in chosen), choose_device(how.device)
    with work.progress("Reading the target's law", positions, "tokens") as bar, quiet(always=True):
        number = choose_dtype(how.dtype, where)
        model = open_model(target.source, target.config, number, where, must_shard(target.weight_bytes(number), where))
        return expected_counts(model, chosen, how.sampling, bar.advance), positions
