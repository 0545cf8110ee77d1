"""A loaded package drafts in transformers' own generate: greedy identical, sampled with the target's law.

And a package of every format version so far still loads.
"""

import os
from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare

from drafters.io.json_rules import FORMAT_VERSION
from drafters.package.reader import load
from drafters.rounding import excess, logits_bound

FORMATS = Path(__file__).parent / "formats"
PROMPT = torch.tensor([[1, 7, 20]])
# 120 find a total variation of 0.45 with power 0.999 at 1e-6; STOCK_SAMPLES=25000 finds 0.03 and takes minutes.
SAMPLES = int(os.environ.get("STOCK_SAMPLES", "120"))


@pytest.fixture(scope="module")
def target(tools):
    """A target unlike the drafter, and more certain than a random model is."""
    torch.manual_seed(7)
    model = tools.make_model()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.get_output_embeddings().weight.data *= 12
    return model


@pytest.fixture(scope="module")
def package(original):
    found = load(original, device="cpu")
    found.model.generation_config.num_assistant_tokens = 2
    found.model.generation_config.assistant_confidence_threshold = 0.0
    return found


def generate(target, new: int, sample: bool, drafter=None, **options):
    settings = {"max_new_tokens": new, "do_sample": sample, "pad_token_id": 0, "eos_token_id": None, **options}
    with torch.inference_mode():
        return target.generate(PROMPT, attention_mask=torch.ones_like(PROMPT), assistant_model=drafter, **settings)


def test_greedy_identical(target, package):
    assert torch.equal(generate(target, 24, False, package.model), generate(target, 24, False))


def law(target, top: int) -> dict[tuple[int, int], float]:
    """Exact law of the first two tokens under top-k sampling."""
    found = {}
    with torch.inference_mode():
        first = target(PROMPT).logits[0, -1].double()
        kept = first.topk(top).indices
        weights = first[kept].softmax(-1)
        for token, weight in zip(kept.tolist(), weights.tolist(), strict=True):
            second = target(torch.cat([PROMPT, torch.tensor([[token]])], 1)).logits[0, -1].double()
            after = second.topk(top).indices
            for other, share in zip(after.tolist(), second[after].softmax(-1).tolist(), strict=True):
                found[token, other] = weight * share
    return found


def p_value(target, drafter, top: int) -> float:
    """Of the joint law of two tokens; 0 where one that the target never says was said."""
    exact = law(target, top)
    counts = dict.fromkeys(exact, 0)
    torch.manual_seed(3)
    for _ in range(SAMPLES):
        pair = tuple(generate(target, 2, True, drafter, top_k=top)[0, -2:].tolist())
        if pair not in counts:
            return 0.0
        counts[pair] += 1
    cells = sorted(exact, key=exact.get, reverse=True)
    while exact[cells[-1]] * SAMPLES < 5:  # the rule for small cells, fixed before sampling
        last = cells.pop()
        counts[cells[-1]] += counts[last]
        exact[cells[-1]] += exact[last]
    return float(chisquare([counts[cell] for cell in cells], [exact[cell] * SAMPLES for cell in cells]).pvalue)


def test_sampled_with_the_targets_law_and_not_with_the_drafters(target, package):
    drafts = []
    handle = package.model.register_forward_hook(lambda *args: drafts.append(1))
    assert p_value(target, package.model, top=3) > 1e-6
    handle.remove()
    assert len(drafts) >= SAMPLES
    # The same test of what the drafter says by itself: it would see an output that is not the target's.
    exact = law(target, 3)
    alone = [tuple(generate(package.model, 2, True, top_k=3)[0, -2:].tolist()) for _ in range(50)]
    assert sum(pair not in exact for pair in alone) > 10


@pytest.mark.floats
def test_packages_of_every_format_version_load():
    """A newer format must go on reading the older ones; the folders are never changed once they are here."""
    versions = sorted(path.name for path in FORMATS.iterdir())
    assert versions == [f"v{number}" for number in range(1, FORMAT_VERSION + 1)]
    for name in versions:
        loaded = load(FORMATS / name, device="cpu")
        assert loaded.kept.tolist() == [0, 1, 2, 3, 7, 11, 20, 33, 46]
        assert (loaded.affinity is None, loaded.tail is None, loaded.stop is None) == (False, False, False)
        expected = torch.tensor(LOGITS[name])
        bound = logits_bound(loaded.drafter, PROMPT)[0, -1] + 5e-6  # written down with five digits
        assert excess(loaded.drafter(PROMPT).logits[0, -1], expected, bound) <= 1


LOGITS = {"v1": [0.00445, 0.05685, 0.12701, -0.09611, 0.0122, 0.02124, -0.07859, -0.1084, 0.08366]}
