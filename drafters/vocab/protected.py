"""Tokens that a pruned head keeps whatever their count: ends of sequence and what the target's chat template emits.

A drafter that cannot say them never ends a turn; the counts of a plain text corpus would drop them all.
"""

import difflib
from collections.abc import Iterable

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

_TURNS = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
_CONVERSATIONS = (_TURNS, [{"role": "system", "content": "rules"}, *_TURNS])


def protected_tokens(
    tokenizer: PreTrainedTokenizerBase, eos: Iterable[int | list[int] | None] = (), extra: Iterable[str] = ()
) -> Tensor:
    """Ids, int64 ascending, that pruning must keep in the vocabulary of ``tokenizer`` (the target's).

    ``eos`` are the eos_token_id entries of the model's configs: int, list or None. ``extra`` are token strings of the
    user's; ValueError names one that the tokenizer does not have.
    """
    ids = {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()
    for entry in eos:
        ids |= set(entry if isinstance(entry, (list, tuple)) else [] if entry is None else [entry])
    vocabulary = tokenizer.get_vocab()
    for token in extra:
        if token not in vocabulary:
            near = difflib.get_close_matches(token, vocabulary, n=3)
            raise ValueError(
                f"prune.protect names the token {token!r}, which the target's tokenizer does not have; nearest: {near}"
            )
        ids.add(vocabulary[token])
    return torch.tensor(sorted(ids | template_tokens(tokenizer)), dtype=torch.int64)


def template_tokens(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids of added tokens that the chat template writes: found in its source and in rendered conversations.

    Both are needed: tool markers stand only in the source, ``'<|' + role + '|>'`` only in the rendering. Without a
    template the set is empty.
    """
    source = tokenizer.chat_template
    if not source:
        return set()
    text = source if isinstance(source, str) else "\n".join(source.values())
    return _added_in(tokenizer, text) | turn_markers(tokenizer)


def usual_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The chat template that is used unasked; None without one, and of a collection that names none "default"."""
    found: str | dict[str, str] | None = getattr(tokenizer, "chat_template", None)
    return found.get("default") if isinstance(found, dict) else found


def turn_markers(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids of added tokens that the chat template writes around turns; none without a usual template."""
    if not usual_template(tokenizer):
        return set()
    return _added_in(tokenizer, "".join(_render(tokenizer, conversation) for conversation in _CONVERSATIONS))


def _added_in(tokenizer: PreTrainedTokenizerBase, text: str) -> set[int]:
    added = {token.content: token_id for token_id, token in tokenizer.added_tokens_decoder.items()}
    return {token_id for content, token_id in added.items() if content.strip() and content in text}


def _render(tokenizer: PreTrainedTokenizerBase, conversation: list[dict[str, str]]) -> str:
    """One conversation through the template, "" where the template refuses it (many know no system role)."""
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(conversation, tokenize=False))
    except TemplateError:
        return ""
