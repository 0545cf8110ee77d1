"""What a decode call is given to continue, as rows of ids: tensors with or without padding, lists, texts, chats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from drafters.vocab.protected import usual_template

Message = Mapping[str, Any]  # "role", "content"
# Ids, what a tokenizer returned, one text or several, one chat or several.
Prompts = (
    Tensor | Mapping[str, Any] | str | Sequence[int] | Sequence[Tensor] | Sequence[Sequence[int]] | Sequence[str]
    | Sequence[Message] | Sequence[Sequence[Message]]
)  # fmt: skip
Tokenizer = Callable[[], PreTrainedTokenizerBase]  # asked for where there is text


def read_prompts(
    given: Prompts,
    mask: Tensor | Sequence[Any] | None,
    tokenizer: Tokenizer,
    vocabulary: int,
    pads: Iterable[int],
    never_text: Iterable[int] = (),
) -> list[Tensor]:
    """The prompts as int64 (n,) each, without padding.

    Args:
        mask: 1 for tokens, 0 for padding, at the left or right of a row; of the shape of ``given``. None: no padding.
        vocabulary: ids lie below it. pads: ids that padding may be made of, looked for where there is no mask.
        never_text: of those, ids with no other role, which no prompt begins with.

    Raises ValueError for another shape or type, an id out of range, a mask with holes, and for padding without a mask.
    """
    if isinstance(given, Mapping):
        if "input_ids" not in given:
            raise ValueError(
                f"prompts: expected input_ids in what a tokenizer returned, got {sorted(given)}; a chat is a list"
            )
        mask = given.get("attention_mask") if mask is None else mask
        given = given["input_ids"]
    rows = [_checked(row, vocabulary) for row in _rows(given, tokenizer)]
    if mask is not None:
        return _unpadded(rows, mask)
    _check_padding(rows, set(pads), set(never_text))
    return rows


def _rows(given: Any, tokenizer: Tokenizer) -> list[Tensor]:
    if isinstance(given, str):
        return [_ids(given, tokenizer())]
    if isinstance(given, Tensor) or hasattr(given, "__array__"):
        given = torch.as_tensor(given)
        if given.dim() not in (1, 2):
            raise ValueError(f"input_ids must have shape (n,) or (B, n), got {tuple(given.shape)}")
        return [given] if given.dim() == 1 else list(given)
    items = list(given)
    if items and all(isinstance(item, int) for item in items):
        return [torch.tensor(items)]
    if items and all(isinstance(item, Mapping) for item in items):  # the messages of one chat
        return [_chat(items, tokenizer())]
    return [_row(item, tokenizer) for item in items]


def _row(item: Any, tokenizer: Tokenizer) -> Tensor:
    if isinstance(item, str):
        return _ids(item, tokenizer())
    if isinstance(item, Tensor) or hasattr(item, "__array__"):
        return torch.as_tensor(item)
    parts = list(item)
    if parts and all(isinstance(part, Mapping) for part in parts):
        return _chat(parts, tokenizer())
    if not all(isinstance(part, int) for part in parts):
        raise ValueError(f"prompts: expected ids, texts or chats, got a list of {type(parts[0]).__name__}")
    return torch.tensor(parts, dtype=torch.int64)


def _ids(text: str, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """A text as its tokenizer reads it, with the special tokens that it adds."""
    return torch.tensor(tokenizer(text)["input_ids"], dtype=torch.int64)


def _chat(messages: list[Message], tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """A chat in the target's own template; where the assistant has the last word, that is continued."""
    if not usual_template(tokenizer):
        raise ValueError("messages: expected a tokenizer with a chat template, got one without; give texts or ids")
    answered = messages[-1].get("role") == "assistant"
    text = tokenizer.apply_chat_template(
        messages, add_generation_prompt=not answered, continue_final_message=answered, tokenize=False
    )
    return torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.int64)


def _checked(row: Tensor, vocabulary: int) -> Tensor:
    if row.dtype not in (torch.int64, torch.int32) or row.dim() != 1:
        raise ValueError(f"each prompt must be int64 of shape (n,), got {row.dtype} of shape {tuple(row.shape)}")
    if row.numel() and not (int(row.min()) >= 0 and int(row.max()) < vocabulary):
        raise ValueError(
            f"prompt ids must lie from 0 to {vocabulary - 1}, got {int(row.min())} to {int(row.max())}; "
            "give rows of different lengths as a list, or padded ones with their attention_mask"
        )
    return row


def _unpadded(rows: list[Tensor], mask: Any) -> list[Tensor]:
    masks = [mask] if isinstance(mask, Tensor) and mask.dim() == 1 else list(mask)
    if len(rows) == 1 and masks and not isinstance(masks[0], Tensor) and isinstance(masks[0], int):
        masks = [masks]
    if len(masks) != len(rows):
        raise ValueError(f"attention_mask: expected {len(rows)} rows as of input_ids, got {len(masks)}")
    found = []
    for number, (row, given) in enumerate(zip(rows, masks, strict=True)):
        seen = torch.as_tensor(given).to(row.device)
        if seen.shape != row.shape:
            raise ValueError(
                f"attention_mask: expected the shape of input_ids, got {tuple(seen.shape)} in row {number}"
            )
        places = seen.nonzero().flatten()
        first, end = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
        if end - first != len(places):
            raise ValueError(f"attention_mask: expected padding at the ends of a row only, got a hole in row {number}")
        found.append(row[first:end])
    return found


def _check_padding(rows: list[Tensor], pads: set[int], never_text: set[int]) -> None:
    """Rows of equal length that begin or end with unequally many pad ids are padded: read as text they would be another prompt.

    So is a row that begins with an id that only pads; transformers' generate masks it unasked.
    """
    if padded := sum(row.numel() > 0 and int(row[0]) in never_text for row in rows):
        raise _unmasked(padded, len(rows), "begin")
    if len(rows) < 2 or len({len(row) for row in rows}) != 1:
        return
    lists = [row.tolist() for row in rows]
    for where, ordered in (("begin", lists), ("end", [ids[::-1] for ids in lists])):
        runs = [next((at for at, token in enumerate(ids) if token not in pads), len(ids)) for ids in ordered]
        if len(set(runs)) > 1:
            raise _unmasked(sum(run > min(runs) for run in runs), len(rows), where)


def _unmasked(padded: int, rows: int, where: str) -> ValueError:
    return ValueError(
        f"input_ids: {padded} of {rows} rows {where} with pad ids, which would be "
        "read as text: give attention_mask= as the tokenizer returned it (ones where they are text), or a list of prompts"
    )
