"""Whether head and embedding are one tensor: told by the weights, since a config may say it of a checkpoint that holds both.

Merged adapters leave such files, and readers disagree on them: transformers and vLLM keep the head, SGLang drops it.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel

LOADER = logging.getLogger("transformers.modeling_utils")
THEIR_WORDS = "tied weights mapping and config"  # what transformers says of it at every load


def is_tied(model: PreTrainedModel) -> bool:
    """Return whether head and embedding of a causal LM share one weight."""
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


def write_tied_flag(model: PreTrainedModel, name: str | None = None) -> None:
    """Make the configs of a causal LM say what its weights are, in place; with a ``name`` a correction is told, as a warning."""
    tied = is_tied(model)
    if name is not None and bool(model.config.tie_word_embeddings) != tied:
        weights = "one tensor" if tied else "two tensors"
        warnings.warn(
            f"{name}: config.json has tie_word_embeddings={not tied}, but head and embedding are {weights}; the weights count",
            stacklevel=3,
        )
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = tied


@contextmanager
def told_once() -> Iterator[None]:
    """Keep transformers' own words on the disagreement back: `write_tied_flag` names it."""

    def other(record: logging.LogRecord) -> bool:
        return THEIR_WORDS not in record.getMessage()

    LOADER.addFilter(other)
    try:
        yield
    finally:
        LOADER.removeFilter(other)
