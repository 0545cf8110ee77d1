"""When a request ends and how its distributions are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from drafters.probs import Sampling


@dataclass(frozen=True)
class Limits:
    """What one decode call may produce.

    `sampling` makes the target's distribution p, exactly as plain decoding would; `draft_sampling` the drafter's q
    (None: the same). `text` turns new ids into text and is needed for `stop_strings` only. Raises ValueError on
    impossible values.
    """

    max_new_tokens: int = 128
    sampling: Sampling = field(default_factory=Sampling)
    draft_sampling: Sampling | None = None
    stop_strings: tuple[str, ...] = ()
    text: Callable[[list[int]], str] | None = None
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be >= 1, got {self.max_new_tokens}.")
        if self.stop_strings and self.text is None:
            raise ValueError("stop_strings need `text`, the tokenizer's decode: text cannot be matched in ids.")
        if any(not string for string in self.stop_strings):
            raise ValueError("stop_strings must not hold an empty string: it would match everywhere.")

    @property
    def drafting(self) -> Sampling:
        """How the drafter's distribution is made."""
        return self.sampling if self.draft_sampling is None else self.draft_sampling

    def cut(self, new: list[int], fresh: int, eos: tuple[int, ...]) -> int | None:
        """Number of `new` tokens after which the request ends, None if it goes on; only the last `fresh` ones are unchecked.

        Ends with the token that is an EOS, that completes a stop string, or that is the last one allowed; whichever is first.
        """
        for count in range(len(new) - fresh + 1, len(new) + 1):
            if count >= self.max_new_tokens or (new[count - 1] in eos and not self.ignore_eos):
                return count
            if self.stop_strings and self.text is not None:
                tail = self.text(new[:count])
                if any(string in tail for string in self.stop_strings):
                    return count
        return None
