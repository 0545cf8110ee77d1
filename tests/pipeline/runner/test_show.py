"""What the runner says before and after: the stages to come, and the result of the one asked for."""

from pathlib import Path

import pytest

SHOWING = """
from pipeline.runner.stage import Stage

def show(directory, inputs, console):
    console.print(f"total is {(directory / 'total.txt').read_text().strip()} from {sorted(inputs)}")

STAGE = Stage(name="total", run={module}.run, inputs={module}.inputs, show=show)
"""


@pytest.fixture
def showing(toys):
    source = (Path(toys.root) / toys.package / "stages" / "total.py").read_text()
    body = source[: source.index("STAGE =")]
    show = SHOWING.split("STAGE =")[0].partition("Stage\n")[2]
    stage = source[source.index("STAGE =") :].rstrip().removesuffix(")").rstrip() + ", show=show\n)\n"
    toys.write("stages/total", body + show + stage)
    return toys


def test_the_stages_to_come_are_named_in_order_and_the_result_is_shown_made_or_reused(showing):
    showing.runner().run("total")
    first = showing.said().splitlines()
    assert first[0] == "to make: numbers -> shards -> total"
    assert first[-1] == "total is 400 from ['numbers', 'shards']"
    showing.runner().run("total")
    second = showing.said().splitlines()
    assert not any(line.startswith("to make") for line in second)
    assert second[-1] == first[-1]


def test_only_the_stage_asked_for_is_shown(showing):
    showing.runner().run("shards")
    said = showing.said()
    assert "total is" not in said
    assert said.startswith("to make: numbers -> shards\n")


def test_a_stage_alone_is_not_announced(showing):
    showing.runner().run("numbers")
    assert "to make" not in showing.said()
