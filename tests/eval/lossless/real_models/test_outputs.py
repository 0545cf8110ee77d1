"""Checks of outputs on tiny models: exact samplers pass, planted bugs do not, and a run that was cut off goes on."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from drafters.engine.transformers_pair import TransformersPair
from drafters.rng.coins import KeyedCoins
from drafters.samplers import catalog
from drafters.samplers.draft import Sampler, Verdict
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.verify.race import Race
from drafters.samplers.verify.rejection import Rejection
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import identity
from eval.lossless.real_models import greedy_identity, likelihood, race_identity
from eval.lossless.real_models.outputs import Lab, LabOptions, OutputsError, newest, open_lab
from eval.run.configurations import Drafter, contenders
from eval.run.records import PACKAGE, UNPRUNED
from eval.run.sampler_files import Preset

NAMES = ("block", "race")


@pytest.fixture
def lab(target, drafter, tmp_path):
    class Models:
        """The part of a ModelPair that is used."""

        def __init__(self) -> None:
            self.target = target

    pair = TransformersPair(target, drafter, eos=(0,))
    drafters = [Drafter(UNPRUNED, pair, identity(24)), Drafter(PACKAGE, pair, identity(24))]

    def build(temperature: float, names=NAMES, prompts: int = 12, tokens: int = 8, batch: int = 8) -> Lab:
        chosen = contenders(drafters, {"static": Static(3)}, [temperature], [Preset(name, name) for name in names])
        ids = [torch.tensor([3, number % 24, 8, number // 24]) for number in range(prompts)]
        return Lab(Models(), ids, chosen, tmp_path / "pieces", tokens, batch, seed=0)

    return build


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


class Biased(Rejection):
    """The planted bug: whatever is left to draw is the likeliest token."""

    def verify(self, p, draft, coins, key):
        found = super().verify(p, draft, coins, key)
        best = p[torch.arange(len(p)), found.accepted].argmax(-1)
        return Verdict(found.nodes, found.accepted, best)


class Careless(Rejection):
    """The planted bug: the third token behind a prompt is another one."""

    def verify(self, p, draft, coins, key):
        found = super().verify(p, draft, coins, key)
        wrong = (found.next_token + 1) % p.shape[-1]
        return Verdict(found.nodes, found.accepted, torch.where(key.position > 5, wrong, found.next_token))


def test_greedy_outputs_are_counted_and_a_wrong_token_is_found(lab, monkeypatch):
    monkeypatch.setitem(
        catalog.CATALOG, "careless", catalog.SamplerSpec(lambda context: Sampler("careless", Identity(), Careless()))
    )
    rows = {row["sampler"]: row for row in greedy_identity.check(lab(0.0, (*NAMES, "careless")), quiet())}
    assert set(rows) == {"standard", *NAMES, "careless"}
    for name in ("standard", *NAMES):
        assert (rows[name]["identical"] + rows[name]["tie"], rows[name]["different"]) == (12, 0)
        assert rows[name]["tokens"] >= rows[name]["target_forwards"] > 0
    assert rows["careless"]["different"] == len(rows["careless"]["different_prompts"]) > 0


def test_a_run_that_was_cut_off_goes_on_with_what_it_has(lab, monkeypatch):
    whole = greedy_identity.check(lab(0.0), quiet())
    calls = []
    real = Lab.decode
    monkeypatch.setattr(Lab, "decode", lambda self, *a, **k: calls.append(a[1]) or real(self, *a, **k))
    assert greedy_identity.check(lab(0.0), quiet()) == whole
    assert calls == []
    path = lab(0.0).folder / "block.package.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1][:20])  # killed in the middle of a line
    assert greedy_identity.check(lab(0.0), quiet()) == whole
    assert calls == [range(8, 12)]


def test_exact_samplers_have_the_targets_likelihood_and_a_biased_one_has_not(lab, monkeypatch):
    monkeypatch.setitem(
        catalog.CATALOG, "biased", catalog.SamplerSpec(lambda context: Sampler("biased", Identity(), Biased()))
    )
    rows = likelihood.check(lab(1.0, (*NAMES, "biased"), prompts=48, tokens=12, batch=48), quiet())
    scores = {row["sampler"]: (row["z_entropy"], row["z_plain"]) for row in rows}
    assert scores[None][1] is None
    for name in (None, "standard", *NAMES):
        assert max(abs(score) for score in scores[name] if score is not None) < likelihood.LIMIT, name
    assert scores["biased"][0] < -likelihood.LIMIT
    assert scores["biased"][1] < -likelihood.LIMIT
    json.dumps(rows, allow_nan=False)


class Unsynchronised(Race):
    """The planted bug: deep in the text the target races on another position's noise."""

    def verify(self, p, draft, coins, key):
        return super().verify(p, draft, coins, replace(key, position=torch.where(key.position > 9, 3, key.position)))


def test_races_on_shared_noise_are_plain_race_decoding_and_a_shifted_one_is_not(lab, monkeypatch):
    monkeypatch.setitem(
        catalog.CATALOG,
        "shifted",
        catalog.SamplerSpec(lambda context: Sampler("shifted", Identity(), Unsynchronised())),
    )
    coupled = lab(1.0, ("race", "shifted"))
    coupled = replace(coupled, contenders=[c for c in coupled.contenders if c.sampler and c.sampler.verifier.coupled])
    rows = {row["sampler"]: row for row in race_identity.check(coupled, quiet())}
    assert (rows["race"]["outputs"], rows["shifted"]["outputs"]) == (12, 12)
    assert rows["race"]["largest_gap"] < race_identity.GAP
    assert rows["shifted"]["parted"] > 0
    assert rows["shifted"]["largest_gap"] > 100 * race_identity.GAP


def test_where_outputs_part():
    one = torch.tensor([4, 5, 6])
    assert race_identity.parts_at(one, one) is None
    assert race_identity.parts_at(one, torch.tensor([4, 7, 6])) == 1
    assert race_identity.parts_at(one, one[:2]) == 2


def test_the_winner_of_a_race_has_no_gap(target):
    coins, prefix = KeyedCoins(0, torch.tensor([5])), torch.tensor([3, 7])
    logs = target(input_ids=prefix[None]).logits[0, -1].double().log_softmax(-1)
    scores = logs - coins.race(torch.tensor([2]), torch.arange(24))[0].log()
    best, second = scores.topk(2).indices.tolist()
    assert race_identity.gap(target.double(), coins, prefix, [best]) == pytest.approx(0.0, abs=1e-12)
    found = race_identity.gap(target.double(), coins, prefix, [best, second])
    assert found == pytest.approx(float(scores[best] - scores[second]), abs=1e-5)


def test_scores_are_the_targets_own(target):
    prompt, tokens = torch.tensor([3, 7]), torch.tensor([5, 11, 2])
    logs = target(input_ids=torch.cat([prompt, tokens])[None]).logits[0, 1:4].double().log_softmax(-1)
    found = likelihood.score(target, prompt, tokens)
    p = logs.exp()
    entropy = -(p * logs).sum(-1)
    assert found[0] == pytest.approx(-float(logs[range(3), tokens].sum()), rel=1e-6)
    assert found[1] == pytest.approx(float(entropy.sum()), rel=1e-6)
    assert found[2] == pytest.approx(float(((p * (-logs - entropy.unsqueeze(-1)) ** 2).sum(-1)).sum()), rel=1e-6)


def test_standard_scores():
    assert likelihood.paired(np.array([0.0, 0.0, 0.0])) == 0.0
    assert likelihood.paired(np.array([1.0, 2.0, 3.0])) == pytest.approx(2.0 / (1.0 / np.sqrt(3)))
    row = likelihood.summary(np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 3.0]]), np.array([2, 2]))
    assert row == (1.0, 0.75, 0.5)


def test_without_a_package_the_command_says_how_to_make_one(tmp_path):
    with pytest.raises(OutputsError, match=r"make one .make package. or name it: package="):
        newest(tmp_path)


def test_a_wrong_sampler_is_told_before_anything_is_opened():
    with pytest.raises(OutputsError, match=r"samplers: tly: no such sampler; choose from block, .*tli"):
        open_lab(LabOptions(package="nowhere", samplers=["tly"]), "identity", 0.0)
