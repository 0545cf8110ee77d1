"""Make, load and run vocabulary-pruned drafters for speculative decoding.

The public names below are imported on first use, so that ``import drafters`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drafters.generation import generate as generate
    from drafters.generation import stream as stream
    from drafters.generation import stream_rounds as stream_rounds
    from drafters.models.gguf.cache import find_model as find_model
    from drafters.models.pair import ModelPair as ModelPair
    from drafters.models.pair import load_pair as load_pair
    from drafters.package.reader import Package as Package
    from drafters.package.reader import load as load
    from drafters.package_error import PackageError as PackageError
    from drafters.vocab.alignment import VocabMap as VocabMap

_HOMES = {
    "ModelPair": "drafters.models.pair",
    "Package": "drafters.package.reader",
    "PackageError": "drafters.package_error",
    "VocabMap": "drafters.vocab.alignment",
    "find_model": "drafters.models.gguf.cache",
    "generate": "drafters.generation",
    "load": "drafters.package.reader",
    "load_pair": "drafters.models.pair",
    "stream": "drafters.generation",
    "stream_rounds": "drafters.generation",
}
__all__ = [
    "ModelPair",
    "Package",
    "PackageError",
    "VocabMap",
    "find_model",
    "generate",
    "load",
    "load_pair",
    "stream",
    "stream_rounds",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'drafters' has no attribute {name!r}; public names: {', '.join(__all__)}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
