"""The words of ``make watch``: its own options, and settings of the pair and its package, which are the pipeline's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from drafters.probs import Sampling
from eval.command_line import OptionError, read_options
from pipeline.config.hydra_config import BaseConfig
from pipeline.runner.discovery import stage_names

SAME_PACKAGE = ("device", "dtype", "threads", "runs_dir")  # with pair.*: settings that say nothing of how one is made


@dataclass
class WatchOptions:
    """What to watch; everything else is a setting of the pipeline."""

    prompt: str = ""  # put through the chat template where the target has one; none: one that fits the pair
    race: bool = False  # plain decoding beside it: the same prompt and coins, each on its own clock
    temperature: float = 0.0  # 0 is greedy: both texts of a race are then equal
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # 1: off
    max_new_tokens: int = 128  # the text may end before, with the target's end of text
    seed: int = 0  # of the coins
    sampler: str = ""  # of the catalog; none: as the package's evaluation recommends
    stop: str = ""  # a stop policy with its usual options; none: as recommended, else static
    lookahead: int = 0  # drafts that static makes a round; 0: as recommended, else the package's own number
    package: str = ""  # folder, or "none" for the drafter before it was pruned; none given: the pair's newest, if any
    marks: bool = False  # show by signs what colours show: ‹correction› «bonus»

    @property
    def sampling(self) -> Sampling:
        """The distribution that the target draws from. Raises OptionError for a value out of range."""
        try:
            return Sampling(self.temperature, self.top_k, self.top_p)
        except ValueError as error:
            raise OptionError(str(error)) from error


def read_words(words: Sequence[str]) -> tuple[WatchOptions, list[str]]:
    """The options of watch, and the words that are settings of the pipeline.

    Raises OptionError for a word that is neither, and for a value that is none.
    """
    own = {item.name for item in dataclasses.fields(WatchOptions)}
    shared = {item.name for item in dataclasses.fields(BaseConfig)} - {"stage", "only", "brief"}
    shared |= {"corpus", "suite", "experiment", *(name.replace("-", "_") for name in stage_names())}
    mine, theirs, prompt = [], [], ""
    for word in words:
        key, equals, text = word.partition("=")
        if key == "prompt" and equals:  # a text is taken as it is, whatever braces and dollars it holds
            prompt = text
        elif equals and key not in own and key.partition(".")[0] in shared - {"sampler", "stop"}:
            theirs.append(word)
        else:
            mine.append(word)
    options = dataclasses.replace(read_options(WatchOptions, mine), prompt=prompt)
    if options.max_new_tokens < 1 or options.lookahead < 0:
        raise OptionError(
            f"max_new_tokens={options.max_new_tokens} lookahead={options.lookahead}: expected 1, 0 or more"
        )
    return options, theirs


def asks_for_a_package(settings: Sequence[str]) -> bool:
    """Whether these settings say how a package is to be made, so that an earlier one will not do."""
    keys = (word.partition("=")[0] for word in settings)
    return any(key.partition(".")[0] != "pair" and key not in SAME_PACKAGE for key in keys)
