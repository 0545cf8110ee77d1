"""Chats as a target reads and writes them: rendered by its own template, its own turns found in what was rendered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from drafters.models.pair import Checkpoint
from drafters.vocab.protected import usual_template
from eval.suites.row_layouts import Message, RowError
from pipeline.text.python_source import Document

MASKED = re.compile(r"\{%-?\s*generation\s*-?%\}")  # a template that says itself what the model writes
REFUSALS = (
    TemplateError,
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
)  # of a template and what it calls


@dataclass(frozen=True)
class ChatFormat:
    """How chats become text: by a tokenizer's template, or, where there is none, contents joined by blank lines."""

    tokenizer: PreTrainedTokenizerBase | None = None
    ends: tuple[str, ...] = ()  # what may end a turn of the target, its end of text first
    specials: tuple[str, ...] = field(default=(), repr=False)  # all special tokens of the tokenizer

    @property
    def template(self) -> str | None:
        """The template in words of Jinja, None without one."""
        return None if self.tokenizer is None else usual_template(self.tokenizer)

    def without_specials(self, text: str) -> str:
        """Rendered text without its special tokens, which another tokenizer would spell in letters."""
        return re.sub("|".join(map(re.escape, self.specials)), "", text) if self.specials else text

    def document(
        self, messages: Sequence[Message], place: str, domain: str, every_turn: bool, answered: bool = True
    ) -> Document:
        """A chat as a document, whose text is what the target says, or with `every_turn` all of it.

        Raises:
            RowError: the template refuses the chat, or the assistant says nothing where it must have `answered`.
        """
        messages = list(messages)
        try:
            whole, turns, prompt = self._rendered(messages)
        except REFUSALS as error:
            folded = _without_system(messages)
            if folded is None:
                raise RowError(f"the target's chat template refuses it: {error}") from error
            return self.document(folded, place, domain, every_turn, answered)
        if not turns and not every_turn and answered:
            raise RowError("the assistant says nothing")
        return Document(place, whole if every_turn else "".join(turns), domain, prompt, whole)

    def _rendered(self, messages: list[Message]) -> tuple[str, list[str], str]:
        """(whole chat, the target's turns, what stands before the first of them)."""
        own = [number for number, item in enumerate(messages) if item["role"] == "assistant"]
        first = own[0] if own else len(messages)
        template = self.template
        if template is None:
            gap = "\n\n"
            said = [messages[number]["content"] for number in own]
            turns = [text + gap for text in said[:-1]] + said[-1:]
            before = "".join(item["content"] + gap for item in messages[:first])
            return gap.join(item["content"] for item in messages), turns, before
        whole = self._render(messages)
        prompt = self._render(messages[:first], ask=True) if first else ""
        if MASKED.search(template):
            return whole, self._masked(template, messages), prompt
        return whole, [turn for number in own if number and (turn := self._turn(messages, number))], prompt

    def _render(self, messages: list[Message], ask: bool = False) -> str:
        assert self.tokenizer is not None
        text: str = self.tokenizer.apply_chat_template(messages, add_generation_prompt=ask, tokenize=False)
        return text

    def _turn(self, messages: list[Message], number: int) -> str:
        """What is rendered of an assistant's message beyond the request to say it, up to what ends the turn."""
        asked, answered = self._render(messages[:number], ask=True), self._render(messages[: number + 1])
        # A request may open what an answer in the past no longer shows, e.g. the thoughts of reasoning models.
        same = next((at for at, (a, b) in enumerate(zip(asked, answered, strict=False)) if a != b), len(asked))
        return self._ended(answered[same:], "")

    def _masked(self, template: str, messages: list[Message]) -> list[str]:
        """What the template's own ``{% generation %}`` marks, with the end of the turn where that stands outside."""
        assert self.tokenizer is not None
        [whole], [spans] = render_jinja_template(
            conversations=[messages], chat_template=template, return_assistant_tokens_mask=True,
            **self.tokenizer.special_tokens_map,
        )  # fmt: skip
        return [self._ended(whole[begin:end], whole[end:]) for begin, end in spans if end > begin]

    def _ended(self, turn: str, rest: str) -> str:
        """The turn up to its end, which is taken from the rest, or written, where the turn lacks it."""
        found = [at + len(end) for end in self.ends if (at := turn.find(end)) >= 0]
        if found:
            return turn[: min(found)]
        closed, rest = turn.rstrip(), rest.lstrip()
        if not closed or closed.endswith(self.specials):
            return closed
        marks = [mark for mark in (*self.ends, *self.specials) if rest.startswith(mark)]
        return turn + marks[0] if marks else closed + "".join(self.ends[:1])


def chat_format(target: Checkpoint) -> ChatFormat:
    """The format of a target's chats."""
    tokenizer = target.tokenizer
    named = [str(tokenizer.convert_ids_to_tokens(number)) for number in target.eos]
    special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return ChatFormat(tokenizer, tuple(named), tuple(dict.fromkeys([*named, *special])))


def _without_system(messages: list[Message]) -> list[Message] | None:
    """The chat with its system message in front of the user's first, as templates without that role expect it."""
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return None
    system, user, *rest = messages
    both: Message = {**user, "content": f"{system['content']}\n\n{user['content']}"}
    return [both, *rest]
