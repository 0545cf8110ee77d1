"""The greedy check: a planted wrong token is caught, a planted tie is one, and neither hides the other."""

import copy

import pytest
import torch
from torch import Tensor

from eval.run.greedy_check import GreedyCheck
from eval.run.records import DIFFERENT, IDENTICAL, TIE


@pytest.fixture(scope="module")
def case(target, twins) -> tuple[Tensor, Tensor]:
    """A prompt and its plain greedy continuation, which holds a twin with more tokens behind it."""
    for first in range(24):
        whole = prompt = torch.tensor([3, first])
        for _ in range(16):
            whole = torch.cat([whole, target(input_ids=whole[None]).logits[0, -1].argmax(-1, keepdim=True)])
        if (whole[3:-2] == twins[0]).any():
            return prompt, whole[2:]
    pytest.fail("no greedy continuation holds a twin: choose another seed")


def twin_at(output: Tensor, twins) -> int:
    return int((output == twins[0]).nonzero()[0])


def swapped(output: Tensor, place: int, token: int) -> Tensor:
    return torch.cat([output[:place], torch.tensor([token]), output[place + 1 :]])


def test_identical(target, case):
    check, (prompt, output) = GreedyCheck(target), case
    assert check.verdict(prompt, output, output.clone()) == IDENTICAL
    assert check._precise is None  # nothing was re-scored, nothing was copied


def test_a_planted_tie_is_a_tie(target, case, twins):
    check, (prompt, output) = GreedyCheck(target), case
    assert check.verdict(prompt, output, swapped(output, twin_at(output, twins), twins[1])) == TIE
    assert check.worst_gap(prompt, output) < 1e-5


def test_a_planted_wrong_token_is_different(target, case, twins):
    check, (prompt, output) = GreedyCheck(target), case
    place = twin_at(output, twins)
    wrong = swapped(output, place, (int(output[place]) + 1) % 24)
    assert check.verdict(prompt, output, wrong) == DIFFERENT


def test_a_wrong_token_behind_a_tie_is_different(target, case, twins):
    check, (prompt, output) = GreedyCheck(target), case
    place = twin_at(output, twins)
    tied = swapped(output, place, twins[1])
    wrong = swapped(tied, len(output) - 1, (int(output[-1]) + 1) % 24)
    assert check.verdict(prompt, output, wrong) == DIFFERENT


def test_an_output_that_ends_early_is_different(target, case):
    check, (prompt, output) = GreedyCheck(target), case
    assert check.worst_gap(prompt, output[:-1]) < 1e-5  # every token is the right one
    assert check.verdict(prompt, output, output[:-1]) == DIFFERENT
    assert check.verdict(prompt, output[:-1], output) == DIFFERENT


def test_bf16_differences_are_never_called_ties(target, case, twins):
    check, (prompt, output) = GreedyCheck(copy.deepcopy(target).to(torch.bfloat16)), case
    assert not check.exact
    assert check.verdict(prompt, output, swapped(output, twin_at(output, twins), twins[1])) == DIFFERENT
