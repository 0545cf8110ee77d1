"""How many threads a stage gets: the rule, the probe it rests on, and that a second run gets the same without a probe."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from pipeline.config.hydra_config import load
from pipeline.errors import ConfigError
from pipeline.runner import cpu_threads, thread_probe
from pipeline.runner.cpu_threads import FOLDER, Threads, allowed, check
from pipeline.runner.stage import Stage, always
from pipeline.runner.thread_probe import LEAST, MOST, Ready, Round, choose, rounds


def steady(whole: float, number: int = 8) -> list[Round]:
    return [Round(whole / 4, whole / 2, whole / 4 / thread_probe.DRAFTS)] * number


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 1.0}, 1),
        ({1: 1.0, 2: 1.6}, 1),
        ({1: 1.0, 2: 0.9}, 1),  # faster, but not by what a neighbour would cost
        ({1: 1.0, 2: 0.6}, 2),
        ({1: 1.0, 4: 0.4, 8: 0.38}, 4),
        ({1: 1.0, 4: 0.4, 8: 0.2}, 8),
        ({1: 1.0, 4: 0.9, 8: 0.5}, 8),
        ({1: 1.0, 4: 2.0, 8: 0.5}, 8),
    ],
)
def test_the_fewest_threads_unless_more_are_clearly_faster(seconds: dict[int, float], chosen: int) -> None:
    assert choose({n: steady(whole) for n, whole in seconds.items()}) == chosen


def test_rounds_are_compared_side_by_side_and_must_agree() -> None:
    pace = [1.0, 5.0, 1.0, 5.0, 1.0, 5.0, 1.0, 5.0]  # a neighbour comes and goes; more threads gain a third throughout
    assert choose({1: [steady(p)[0] for p in pace], 2: [steady(0.67 * p)[0] for p in pace]}) == 2
    lucky = [0.6, 0.6, 0.6, 0.6, 0.6, 1.4, 1.4, 1.4]  # the median gains 40 %, three of eight lose
    assert choose({1: steady(1.0), 2: [steady(p)[0] for p in lucky]}) == 1


def test_luck_beside_a_busy_neighbour_is_no_speed() -> None:
    """One thread is interrupted in most rounds, two in none; undisturbed they take the same."""
    assert choose({1: [steady(p)[0] for p in (1.0, 4.0, 4.0, 4.0, 4.0, 4.0)], 2: steady(0.95, 6)}) == 1


def test_the_whole_round_decides_not_its_forwards() -> None:
    """More threads are faster for the target and slower for the drafter, which runs seven times."""
    one, two = Round(1.0, 2.0, 0.5), Round(0.5, 1.0, 0.8)
    assert two.whole > one.whole
    assert choose({1: [one] * 5, 2: [two] * 5}) == 1


class Machine:
    """A simulated one: forwards of fixed seconds by the threads in use, and a log."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds, self.threads, self.now, self.log = seconds, 0, 0.0, []

    def use(self, n: int) -> None:
        self.threads = n

    def forward(self, share: float) -> Any:
        machine = self

        class Forward:
            def run(self) -> None:
                machine.now += share * machine.seconds[machine.threads]
                machine.log.append(machine.threads)

            def undo(self) -> None:
                machine.now += 100.0  # must not be timed

        return Forward()

    def ready(self) -> Ready:
        return Ready(self.forward(0.25), self.forward(0.5), self.forward(0.25 / thread_probe.DRAFTS))


def found_on(seconds: dict[int, float], probing: Callable[..., dict[int, list[Round]]] = rounds) -> Any:
    machine = Machine(seconds)
    return probing(machine.ready(), sorted(seconds), machine.use, lambda: machine.now), machine


def check_probe(probing: Callable[..., dict[int, list[Round]]]) -> None:
    found, _ = found_on({1: 0.02, 2: 0.03}, probing)
    assert {n: some[0].whole for n, some in found.items()} == pytest.approx({1: 0.02, 2: 0.03})
    assert choose(found) == 1
    assert choose(found_on({1: 0.03, 2: 0.02}, probing)[0]) == 2


def test_what_is_measured_is_what_the_threads_took() -> None:
    check_probe(rounds)


def test_a_swapped_result_is_found() -> None:
    def swapped(*arguments: Any) -> dict[int, list[Round]]:
        found = rounds(*arguments)
        return dict(zip(found, list(found.values())[::-1], strict=True))

    with pytest.raises(AssertionError):
        check_probe(swapped)


def test_numbers_of_threads_take_turns_in_alternating_order_after_a_round_that_does_not_count() -> None:
    found, machine = found_on({1: 0.02, 2: 0.02, 4: 0.02})
    turns = machine.log[::4]  # four forwards in a row: the one that starts the threads, and the round's
    assert machine.log == [n for n in turns for _ in range(4)]
    assert turns[:9] == [1, 2, 4, 4, 2, 1, 1, 2, 4]
    assert {len(some) for some in found.values()} == {len(turns) // 3 - 1}


@pytest.mark.parametrize(
    ("seconds", "number"), [(1e-6, MOST), (0.1, 10), (0.4, LEAST), (1.0, 5), (3.0, thread_probe.FEWEST)]
)
def test_a_probe_takes_about_a_second_and_of_slow_models_few_rounds(seconds: float, number: int) -> None:
    machine = Machine({1: seconds})
    ready = machine.ready()
    ready.drafter.run = lambda: None  # type: ignore[method-assign]
    for forward in (ready.target, ready.verify, ready.drafter):
        forward.undo = lambda: None  # type: ignore[method-assign]
    assert len(rounds(ready, [1], machine.use, lambda: machine.now / 0.75)[1]) == number


def configuration(runs: Path, *changes: str) -> Any:
    return load(["stage=eval", "device=cpu", f"runs_dir={runs}", *changes])


DECODER, READER = (
    Stage("decoder", run=lambda context: None, decodes=always),
    Stage("reader", run=lambda context: None),
)


class Probe:
    """Stands in for `probe.measure`."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds, self.asked = seconds, []

    def __call__(self, cfg: Any, counts: Sequence[int]) -> dict[int, list[Round]]:
        self.asked.append(list(counts))
        return {n: steady(self.seconds[n]) for n in counts}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(Threads, "_say", lambda self, text: lines.append(text))
    return lines


def test_auto_is_measured_once_and_found_again(tmp_path: Path, said: list[str]) -> None:
    measure = Probe({1: 0.020, 2: 0.030, 4: 0.010})
    first = Threads(configuration(tmp_path), Console(), 4, measure)
    assert [first.of(DECODER), first.of(DECODER)] == [4, 4]
    assert measure.asked == [[1, 2, 4]]
    assert said == [
        "threads: 4 of 4: undisturbed, a target forward takes 5.0 ms on 1, 7.5 ms on 2, 2.5 ms on 4, with a round of 7 "
        "drafts 20.0 ms on 1, 30.0 ms on 2, 10.0 ms on 4 (more only where they save 15%, also in the median; threads=N "
        "sets a number)"
    ]
    (path,) = (tmp_path / FOLDER).iterdir()
    kept = json.loads(path.read_text())
    assert kept["undisturbed"]["2"]["whole"] == kept["median"]["2"]["whole"] == pytest.approx(0.030)
    faster = Probe({1: 0.001, 2: 1.0, 4: 1.0})  # another hour, another neighbour: the key must not change
    assert Threads(configuration(tmp_path), Console(), 4, faster).of(DECODER) == 4
    assert faster.asked == []
    assert said[1:] == [f"threads: 4 of 4, as found on {kept['date']}; {path} holds the figures"]


@pytest.mark.parametrize("change", ["cores", "models", "dtype", "damage", "too many"])
def test_what_was_found_elsewhere_or_cannot_be_read_is_measured_again(
    tmp_path: Path, said: list[str], change: str
) -> None:
    Threads(configuration(tmp_path), Console(), 4, Probe({1: 1.0, 2: 1.0, 4: 1.0})).of(DECODER)
    cfg, cores = configuration(tmp_path), 4
    (path,) = (tmp_path / FOLDER).iterdir()
    match change:
        case "cores":
            cores = 2
        case "models":
            cfg.pair.drafter = "drafters/zoo/pycode/foreign"
        case "dtype":
            cfg.dtype = "bf16"
        case "damage":
            path.write_text("{")
        case "too many":
            path.write_text(path.read_text().replace('"threads": 1', '"threads": 5'))
    measure = Probe({1: 1.0, 2: 0.1, 4: 0.1})
    assert Threads(cfg, Console(), cores, measure).of(DECODER) == 2
    assert len(measure.asked) == 1


def test_no_probe_where_nothing_is_decoded_or_there_is_no_choice(tmp_path: Path) -> None:
    measure = Probe({})

    def of(stage: Stage, cores: int, *changes: str) -> int:
        return Threads(configuration(tmp_path, *changes), Console(), cores, measure).of(stage)

    assert of(READER, 4) == 4
    assert of(DECODER, 1) == 1
    assert of(DECODER, 4, "device=cuda") == 4
    assert (of(READER, 4, "threads=3"), of(DECODER, 4, "threads=3")) == (3, 3)
    assert measure.asked == []


def test_which_stages_decode_here() -> None:
    from pipeline.runner.discovery import STAGES, load_stage, stage_names

    cfg = load(["stage=eval"])
    found = {name for name in stage_names() if load_stage(name, STAGES)[0].decodes(cfg)}
    assert found == {"eval", "generate", "sweep", "traces", "train-disco"}
    generate = load_stage("generate", STAGES)[0]
    for change in ("hardware=ray", "generate.backend=vllm"):
        assert not generate.decodes(load(["stage=generate", change]))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (0, "0"), (-1, "-1"), (1.5, "1.5"), ("all", "all"), (True, "True")],
)
def test_other_values_are_refused_with_the_number_that_all_would_be(value: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"threads={text}: expected .* or auto .* threads={allowed()}$"):
        check(value)
    check("auto")
    check(3)


def test_what_a_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    none = tmp_path / "none"
    assert allowed({}, none) == 8
    assert allowed({"OMP_NUM_THREADS": "3"}, none) == 3
    assert allowed({"OMP_NUM_THREADS": "4,2"}, none) == 4
    assert allowed({"OMP_NUM_THREADS": "64"}, none) == 8
    assert allowed({"OMP_NUM_THREADS": "many"}, none) == 8
    quota = tmp_path / "cpu.max"
    for text, cores in (("max 100000\n", 8), ("250000 100000\n", 3), ("50000 100000\n", 1), ("odd", 8)):
        quota.write_text(text)
        assert allowed({}, quota) == cores


def test_the_key_and_torch_get_the_number(toys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (toys.root / toys.package / "stages/total.py").read_text()
    source = source.replace("measures=True", "measures=True, decodes=lambda cfg: True")
    source = source.replace(
        "def run(context: Context) -> None:", "def run(context: Context) -> None:\n    import torch"
    )
    source = source.replace('f"{size}\\n"', 'f"{torch.get_num_threads()}\\n"')
    toys.write("stages/total", source)
    models = [f"pair.target={toys.root / 'seeds'}", f"pair.drafter={toys.root / 'seeds'}", "threads=auto"]
    monkeypatch.setattr(cpu_threads, "allowed", lambda: 2)
    monkeypatch.setattr(thread_probe, "measure", Probe({1: 1.0, 2: 1.5}))
    before = torch.get_num_threads()
    try:
        runner = toys.runner(*models)
        out = runner.run("total")
        assert (out / "total.txt").read_text() == "1\n"
        assert out.name == toys.key("total", "threads=1")
        monkeypatch.setattr(thread_probe, "measure", Probe({1: 1.0, 2: 0.5}))
        assert toys.runner(*models).run("total") == out  # as found
        assert [line.split(":")[0] for line in toys.said().splitlines()].count("threads") == 2
        runner.threads.use(READER)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_embedded_pair_is_timed_and_the_threads_are_left_as_they_were(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    found = thread_probe.measure(configuration(tmp_path, "dtype=fp32"), [1, 2])
    assert torch.get_num_threads() == before
    assert sorted(found) == [1, 2]
    assert len(found[1]) == len(found[2]) >= thread_probe.FEWEST
    assert all(
        min(one.drafter, one.target, one.verify) > 0 for one in found[1]
    )  # which is longer, a busy machine decides


def test_a_foreign_drafter_is_timed_on_ids_of_its_own(tmp_path: Path) -> None:
    found = thread_probe.measure(configuration(tmp_path, "pair=pycode_foreign"), [1])
    assert all(one.whole > 0 for one in found[1])


def test_threads_that_wait_sleep() -> None:
    import subprocess
    import sys

    code = "import sys, os, pipeline; print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "PASSIVE"]
