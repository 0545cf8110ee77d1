"""What an evaluation's report says of the package, and what its page may show of other commands' measurements."""

import json
from types import SimpleNamespace

import pytest

from eval.report.schema import ModelId
from eval.report.sources import Further
from pipeline.evaluate.report import _of_this_pair, absent
from tests.eval.report.conftest import small

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


def test_what_the_package_lacks_is_said_with_the_command_or_the_reason(tmp_path):
    bare, whole, two = (
        SimpleNamespace(affinity=prior, tailed=tail, foreign=foreign)
        for prior, tail, foreign in ((None, None, False), ("prior", "tail", False), (None, None, True))
    )
    (said,) = absent(bare, {}, small())
    assert said == (
        "this package has no prior (rows of rdk) and no tail (rows of tail): switched off; with it: "
        'make eval ARGS="pair=pycode suite=pycode affinity.enabled=true tail.enabled=true"'
    )
    (tmp_path / "tail.json").write_text(json.dumps({"tail": None, "reason": "nothing was pruned"}))
    prior, tail = absent(bare, {"tail": tmp_path}, small())
    assert "no prior (rows of rdk): switched off" in prior
    assert tail == "this package has no tail (rows of tail): nothing was pruned"
    assert absent(whole, {}, small()) == absent(two, {}, small()) == []  # no switch gives a prior to two vocabularies
