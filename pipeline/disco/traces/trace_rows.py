"""Traces as training data: one row per draft that some round would have made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from drafters.stop.features import RECENT, STEP, UNKNOWN, past_columns, remember
from pipeline.disco.traces.trace_files import Request

LABELS = ("greedy_match", "one_minus_tv", "min1_ratio")
ROUND_LENGTHS = (3, 8, 20)  # the step within a round depends on the policy: requests take turns with these


@dataclass(frozen=True)
class Rows:
    """N drafts. Outputs are (this draft is accepted, given that the next one is)."""

    features: Tensor  # fp32 (N, F)
    label: Tensor  # fp32 (N, 2) probabilities to learn
    happened: Tensor  # int64 (N, 2) what the coin said: for measures of calibration
    known: Tensor  # bool (N, 2): the second output has a label where this draft was accepted and a next one exists

    def dataset(self) -> TensorDataset:
        """As (features, label, known, happened)."""
        return TensorDataset(self.features, self.label, self.known, self.happened)


def rows_of(requests: Sequence[Request], label: str) -> Rows:
    """The drafts of rounds of different lengths. Raises ValueError for an unknown label or no request.

    Args:
        label: of LABELS. greedy_match: the coin itself, which at temperature 0 is "the target's greedy token" (Mamou et al. 2024,
            appendix D). one_minus_tv: the chance before the token is drawn. min1_ratio: the chance once it is drawn, which the
            features describe; both equal greedy_match at temperature 0.
    """
    if label not in LABELS:
        raise ValueError(f"train_disco.label must be one of {', '.join(LABELS)}, got {label}")
    if not requests:
        raise ValueError("traces: expected at least one request in each split, got none")
    parts = [_rows(item, label, ROUND_LENGTHS[item.number % len(ROUND_LENGTHS)]) for item in requests]
    return Rows(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _rows(item: Request, label: str, length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    trace = item.trace
    place, past = drafts(trace.accepted, length)
    features = trace.features[place].clone()
    features[:, STEP : RECENT + 1] = past
    coin = trace.accepted.float()
    now = {"greedy_match": coin, "one_minus_tv": trace.overlap, "min1_ratio": trace.chance}[label]
    later = coin if label == "greedy_match" else trace.overlap
    after = (place + 1).clamp(max=len(coin) - 1)
    known = torch.stack([torch.ones_like(place, dtype=torch.bool), trace.accepted[place] & (place + 1 < len(coin))], 1)
    return (
        features,
        torch.stack([now[place], later[after]], 1),
        torch.stack([trace.accepted[place], trace.accepted[after]], 1).long(),
        known,
    )


def drafts(accepted: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The drafts that rounds of `length` test, up to the first rejection of each.

    Returns positions int64 (N,) and what of the past their features hold, fp32 (N, 3): see `past_columns`.
    """
    flags = accepted.tolist()
    places, steps, pasts, begin, past = [], [], [], 0, UNKNOWN
    while begin < len(flags):
        for step in range(min(length, len(flags) - begin)):
            places.append(begin + step)
            steps.append(step)
            pasts.append(past)
            if not flags[begin + step]:
                break
        passed = flags[places[-1]]
        past = remember(*past, float(steps[-1] + passed), float(not passed))
        begin = places[-1] + 1 + passed  # behind an accepted round stands a token of the target's own
    streak, recent = torch.tensor(pasts).unbind(-1)
    return torch.tensor(places), past_columns(torch.tensor(steps), streak, recent)


class DiscoData(L.LightningDataModule):
    """Training and validation rows; the order of an epoch depends on the seed and its number alone, also after a resume."""

    def __init__(self, train: Rows, validation: Rows, batch: int, seed: int):
        super().__init__()
        self.rows, self.batch, self.seed = {"train": train, "validation": validation}, batch, seed

    def train_dataloader(self) -> DataLoader:
        """Shuffled, shared out over the processes."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """In order, shared out over the processes."""
        return self._loader("validation", shuffle=False)

    def _loader(self, name: str, shuffle: bool) -> DataLoader:
        data = self.rows[name].dataset()
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)
        sampler: DistributedSampler = DistributedSampler(data, world, rank, shuffle=shuffle, seed=self.seed)
        return DataLoader(data, self.batch, sampler=sampler, num_workers=0)
