"""What an evaluation's page may show of other commands' measurements."""

import pytest

from eval.report.schema import ModelId
from eval.report.sources import Further
from pipeline.evaluate.report import _of_this_pair

MODELS = {"target": ModelId("big", "sha256:1"), "drafter": ModelId("small", "sha256:2")}
SAME = {"target": "sha256:1", "drafter": "sha256:2"}


@pytest.mark.parametrize(("revisions", "shown"), [(SAME, True), (SAME | {"drafter": "sha256:3"}, False), (None, False)])
def test_stop_policies_of_other_models_are_not_shown(revisions, shown):
    """Two pairs of local folders have one name, so that the name says nothing."""
    disco = {"pair": "local"} | ({} if revisions is None else {"revisions": revisions})
    found = _of_this_pair(Further(disco=disco), MODELS, {"samplers": {}})
    assert found.disco == (disco if shown else None)
    assert found.certificate == {"samplers": {}}
    assert _of_this_pair(Further(), MODELS, None).disco is None
