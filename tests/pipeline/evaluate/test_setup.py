"""Samplers that were asked for by name: a row each, or an error that says why not and what fits."""

import pytest
import torch

from drafters.vocab.alignment import VocabMap
from eval.run.configurations import Drafter
from eval.run.sampler_files import Preset
from pipeline.errors import ConfigError
from pipeline.evaluate.setup import check_rows

WHOLE = Drafter("unpruned", None, VocabMap(torch.arange(4), torch.arange(4)))  # type: ignore[arg-type]
PRUNED = Drafter("package", None, VocabMap(torch.tensor([0, 2]), torch.tensor([0, -1, 1, -1])))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("drafters", "name", "message"),
    [
        ([WHOLE, PRUNED], "rdk", r"rdk does not fit this pair: .*affinity prior.* What fits: standard, .*tli"),
        (
            [PRUNED, PRUNED],
            "standard",
            r"standard does not fit this pair: .*whole vocabulary.* What fits: exact_match, .*tli",
        ),
        (
            [WHOLE, PRUNED],
            "rrs",
            r"rrs does not fit this pair: the stop policy or executor does not allow it; add stop=static",
        ),
    ],
)
def test_a_sampler_without_a_row_is_an_error_that_names_what_fits(drafters, name, message):
    with pytest.raises(ConfigError, match=message) as caught:
        check_rows([Preset(name, name)], [], drafters)
    assert f" {name}," not in str(caught.value).partition("What fits:")[2] or name == "rrs"
