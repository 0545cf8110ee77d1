"""How two tokenizers go together: as one vocabulary, id by id, or as two, through the texts that their tokens spell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from drafters.vocab.alignment import VocabMap, align_spellings, by_id
from drafters.vocab.feed import FeedTable, feed_table
from drafters.vocab.one_vocabulary import differences, same_vocabulary
from drafters.vocab.spelling import spelling


@dataclass(frozen=True)
class VocabularyMatch:
    """What the tokenizers of a pair with V and D logit rows make of each other.

    ``tokens`` maps rows that stand for tokens; rows that only pad have no image. ``feed`` is None for one vocabulary,
    where every target id is fed as itself.
    """

    tokens: VocabMap
    feed: FeedTable | None
    same: bool  # every id spells the same text in both
    differences: str  # of one vocabulary: what differs all the same, in one line; "" for nothing

    @property
    def foreign(self) -> bool:
        """Whether text is handed over by what it spells, not by id."""
        return self.feed is not None

    @property
    def vocab(self) -> VocabMap | None:
        """`tokens`, None where the drafter's rows are the target's ids one by one and both heads are equally long."""
        return None if not self.foreign and len(self.tokens.to_target) == len(self.tokens.to_drafter) else self.tokens


def match_tokenizers(
    target_tokenizer: PreTrainedTokenizerBase,
    drafter_tokenizer: PreTrainedTokenizerBase,
    target_vocabulary: int,
    drafter_vocabulary: int,
    foreign: bool | None = None,
) -> VocabularyMatch:
    """Match two tokenizers; ``foreign`` is what the user says of them and holds, None: compare what their ids spell.

    Raises TokenizerMismatch (ids beyond the rows, a decoder that is not known).
    """
    sizes = target_vocabulary, drafter_vocabulary
    target, drafter = spelling(target_tokenizer, sizes[0]), spelling(drafter_tokenizer, sizes[1])
    same = same_vocabulary(target, drafter)
    if same if foreign is None else not foreign:
        return VocabularyMatch(by_id(target, drafter), None, same, differences(target, drafter))
    feed = feed_table(target_tokenizer, drafter_tokenizer, *sizes)
    return VocabularyMatch(align_spellings(target, drafter), feed, same, "")


def foreign_prompt(
    target_tokenizer: PreTrainedTokenizerBase, drafter_tokenizer: PreTrainedTokenizerBase, feed: FeedTable, ids: Tensor
) -> Tensor:
    """Read a prompt of target ids, int64 (n,), as the drafter does, int64 (m,): its texts by the drafter's own tokenizer.

    Specials are fed as their counterparts, those without one are left out. The drafter's opening token comes first
    where it has one: it was trained with it, whatever the target's convention is. m = 0 where nothing can be read.
    """
    pieces: list[int] = []
    run: list[int] = []

    def flush() -> None:
        if run:
            text = target_tokenizer.decode(run, clean_up_tokenization_spaces=False)
            pieces.extend(drafter_tokenizer.encode(text, add_special_tokens=False))
            run.clear()

    for token in ids.tolist():
        if token not in feed.specials:
            run.append(token)
            continue
        flush()
        pieces.extend(feed.row(token).tolist())
    flush()
    opening = [token for token in drafter_tokenizer.encode("")[:1] if token in drafter_tokenizer.all_special_ids]
    if opening and pieces[:1] != opening:
        pieces = opening + pieces
    return torch.tensor(pieces, dtype=torch.int64, device=ids.device)
