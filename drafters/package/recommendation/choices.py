"""What an evaluation recommends, as values: a way to decode for each law that it measured, and what it gains.

`drafters.package.recommendation.recommended_json` reads, checks and writes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from drafters.probs import Sampling
from drafters.samplers.lossy_settings import same_law

SCHEMA = 1


@dataclass(frozen=True)
class Use:
    """A way to decode. Without a sampler it is plain decoding, and all else is None, too."""

    form: str | None = None  # package | tail | unpruned: which form of the drafter drafts
    sampler: str | None = None  # of drafters.samplers.catalog
    options: Mapping[str, Any] = field(default_factory=dict)  # of the sampler
    stop: str | None = None  # of drafters.stop.catalog
    length: int | None = None  # tokens per round of static (levels of a tree), longest round of others; None: theirs

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", {name: _lists(value) for name, value in self.options.items()})

    @property
    def plain(self) -> bool:
        """Whether nothing is drafted."""
        return self.sampler is None


@dataclass(frozen=True)
class Speedup:
    """Tokens per second over those of plain decoding, with its 95 % interval."""

    ratio: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Rated:
    """A way to decode and what it was found to gain. Of plain decoding all figures are 1."""

    use: Use
    speedup: Speedup
    by: str = "clock"  # clock: measured; model: by the cost model alone
    predicted: float  # the speed-up by the cost model
    prompts: int  # that the clock ran on, none of them seen by the choice


@dataclass(frozen=True, kw_only=True)
class Choice(Rated):
    """The best way at one temperature, and the next best ones, best first."""

    temperature: float
    top_k: int = 0
    top_p: float = 1.0
    reason: str  # a sentence
    next: tuple[Rated, ...] = ()

    @property
    def sampling(self) -> Sampling:
        """What the choice is for."""
        return Sampling(self.temperature, self.top_k, self.top_p)

    @property
    def ranked(self) -> tuple[Rated, ...]:
        """The best way and the next ones."""
        return (self, *self.next)


@dataclass(frozen=True)
class Target:
    """The model that was decoded: a Hub id with its commit, or a folder's name with the hash of its content."""

    id: str
    revision: str | None


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The content of ``recommended.json``."""

    package: str  # `Manifest.content` of the package
    target: Target
    pair: str
    suite: str
    device: str  # cpu | cuda | mps
    dtype: str
    threads: int
    code: str  # hash of the code that measured, hex
    choices: tuple[Choice, ...]
    schema: int = SCHEMA

    def choice(self, device: str, sampling: Sampling) -> Choice | None:
        """What was found for a device type and a law; None for one that was not measured: nothing is interpolated.

        At temperature 0 top-k and top-p make no difference.
        """
        if device != self.device:
            return None
        return next((choice for choice in self.choices if same_law(choice.sampling, sampling)), None)


def _lists(value: Any) -> Any:
    """As a JSON file gives it back."""
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value
