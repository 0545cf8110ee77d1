"""What a sampler's parts know, as compiled code must be given it: tensors are read anew in every call, all else is built in."""

from __future__ import annotations

from collections.abc import Hashable

from torch import Tensor


def is_plain(part: object) -> bool:
    """Whether a part knows tensors and constants only: code compiled for it then serves all parts of its kind."""
    return all(isinstance(value, Tensor | int | float | str | None) for value in vars(part).values())


def tensors_of(part: object) -> list[Tensor]:
    """The tensors that a plain part knows."""
    return [value for value in vars(part).values() if isinstance(value, Tensor)]


def kind_of(part: object) -> Hashable:
    """Equal for plain parts that can share code: of one class, with equal constants and tensors of the same shapes."""
    known = (
        (name, (value.shape, value.dtype, value.device) if isinstance(value, Tensor) else value)
        for name, value in vars(part).items()
    )
    return type(part), tuple(known)


class Kind:
    """Stands for one key of compiled code: hashing what it stands for takes as long as a small tensor operation."""


_kinds: dict[Hashable, Kind] = {}


def shared(key: Hashable) -> Kind:
    """The same for equal keys."""
    return _kinds.setdefault(key, Kind())
