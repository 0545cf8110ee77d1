"""The harness on tiny models: greedy outputs are the target's own, a planted bug is not, and order and repeats are fair."""

import json

import pytest
import torch

from drafters.engine.transformers_pair import TransformersPair
from drafters.rng.coins import Coins, Key
from drafters.samplers import catalog
from drafters.samplers.draft import Sampler, Verdict
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.verify.rejection import Rejection
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import identity
from eval.report.rows import greedy_identity, rows
from eval.run.configurations import Drafter, contenders
from eval.run.greedy_check import GreedyCheck
from eval.run.records import PACKAGE, UNPRUNED
from eval.run.sampler_files import Preset
from eval.run.trials import Harness, Task

TASKS = [Task(number, f"p{number}", torch.tensor([3, number, 8])) for number in range(3)]


@pytest.fixture
def harness(target, drafter):
    pair = TransformersPair(target, drafter, eos=(0,))
    drafters = [Drafter(UNPRUNED, pair, identity(24)), Drafter(PACKAGE, pair, identity(24))]

    def build() -> Harness:
        presets = [Preset(name, name) for name in catalog.CATALOG]
        chosen = contenders(drafters, {"static": Static(3)}, [0.0, 1.0], presets)
        return Harness(chosen, torch.device("cpu"), max_new_tokens=10, seed=0, check=GreedyCheck(target))

    return build


def test_every_contender_emits_and_greedy_ones_emit_the_targets_own(harness):
    made = harness()
    records = [item for task in TASKS for item in made.trial(task, 0)]
    assert len(records) == len(TASKS) * len(made.contenders)
    assert [item.configuration for item in records[: len(made.contenders)]] == [
        contender.configuration for contender in made.contenders
    ]
    for item in records:
        assert item.seconds > 0
        assert item.prompt_tokens == 3
        assert item.accepted <= item.verified <= item.drafted
        assert item.tokens <= item.accepted + item.target_forwards
        assert sum(count for *_, count in item.rounds) == item.target_forwards
    speculative = [item for item in records if item.configuration.sampler]
    greedy = [item for item in speculative if item.configuration.temperature == 0]
    assert {item.greedy for item in greedy} == {"identical"}
    assert {item.greedy for item in records if item not in greedy} == {None}
    identity_of = greedy_identity(records, exact=True)
    assert (identity_of.status, identity_of.outputs) == ("ok", len(greedy))
    json.dumps([vars(row) for row in rows(records, "standard")], allow_nan=False)


class Careless(Rejection):
    """The planted bug: the third token it emits after a prompt is another one."""

    def verify(self, p: torch.Tensor, draft, coins: Coins, key: Key) -> Verdict:
        found = super().verify(p, draft, coins, key)
        wrong = (found.next_token + 1) % p.shape[-1]
        return Verdict(found.nodes, found.accepted, torch.where(key.position > 5, wrong, found.next_token))


def test_a_sampler_that_emits_a_wrong_token_is_caught(harness, monkeypatch):
    monkeypatch.setitem(
        catalog.CATALOG, "careless", catalog.SamplerSpec(lambda context: Sampler("careless", Identity(), Careless()))
    )
    made = harness()
    records = [item for task in TASKS for item in made.trial(task, 0)]
    found = greedy_identity(records, exact=True)
    assert found.status == "error"
    assert {item.sampler for item in found.failed} == {"careless"}


def test_contenders_take_turns_in_alternating_order_and_repeats_repeat_the_work(harness):
    made = harness()
    ran = []
    for index, contender in enumerate(made.contenders):
        object.__setattr__(contender, "decode", _noting(contender.decode, ran, index))
    done = []
    first = made.trial(TASKS[0], 0, lambda: done.append(1))
    assert ran == list(range(len(made.contenders)))
    assert len(done) == len(made.contenders)
    ran.clear()
    second = made.trial(TASKS[0], 1)
    assert ran == list(range(len(made.contenders)))[::-1]
    assert [item.rounds for item in first] == [item.rounds for item in second]
    ran.clear()
    made.trial(TASKS[1], 0)
    assert ran == list(range(len(made.contenders)))[::-1]


def _noting(decode, ran, index):
    def call(*arguments):
        ran.append(index)
        return decode(*arguments)

    return call
