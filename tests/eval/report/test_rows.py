"""Rows of the report against numbers worked out by hand, and what becomes of nothing to divide by."""

import json

from eval.report.rows import greedy_identity, rows
from eval.report.schema import FailedOutput, GreedyIdentity
from eval.run.metrics import acceptance_rate, block_efficiency
from eval.run.records import AUTOREGRESSIVE, PACKAGE, SPECULATIVE, UNPRUNED, Configuration, Record, histogram

PLAIN = Configuration(None, None, AUTOREGRESSIVE, None, 1.0, None)
FULL = Configuration(UNPRUNED, "standard", SPECULATIVE, "static", 1.0, 100)
PRUNED = Configuration(PACKAGE, "tli", SPECULATIVE, "static", 1.0, 25)


def made(configuration, prompt, seconds, rounds=(), tokens=None, repeat=0, greedy=None) -> Record:
    """A record of rounds (drafted, verified, accepted); each emits what it accepts and one token more."""
    drafted, verified, accepted = (sum(column) for column in zip(*rounds, strict=True)) if rounds else (0, 0, 0)
    forwards = len(rounds)
    return Record(
        configuration, prompt, repeat, 7, accepted + forwards if tokens is None else tokens, drafted, verified, accepted,
        forwards, histogram(rounds), seconds, greedy,
    )  # fmt: skip


# Three rounds of five drafts: two accepted and one rejected, all accepted, the first rejected.
ROUNDS = [(5, 3, 2), (5, 5, 5), (5, 1, 0)]


def test_definitions_on_hand_made_rounds():
    plain = made(PLAIN, "a", 2.0, [(0, 0, 0)] * 10)
    row = {row.executor: row for row in rows([plain, made(FULL, "a", 0.5, ROUNDS)], "standard")}["speculative"]
    assert {name: getattr(row, name) for name in ("accepted", "verified", "drafted", "target_forwards", "tokens")} == {
        "accepted": 7, "verified": 9, "drafted": 15, "target_forwards": 3, "tokens": 10,
    }  # fmt: skip
    assert row.acceptance_rate == 7 / 9
    assert row.block_efficiency == 10 / 3
    assert row.tokens_per_second == 20.0
    assert row.speedup_vs_autoregressive == 4.0
    assert row.speedup_vs_unpruned == 1.0


def test_nothing_to_divide_by_is_none():
    assert acceptance_rate(0, 0) is None
    assert block_efficiency(0, 0) is None
    plain = rows([made(PLAIN, "a", 2.0, [(0, 0, 0)] * 10)], "standard")[0]
    assert plain.acceptance_rate is plain.acceptance_rate_low is plain.speedup_vs_unpruned is None
    assert plain.block_efficiency == plain.speedup_vs_autoregressive == 1.0
    alone = rows([made(PRUNED, "a", 1.0, ROUNDS), made(PRUNED, "b", 1.0, ROUNDS)], "standard")[0]
    assert alone.speedup_vs_autoregressive is alone.speedup_vs_unpruned is None
    never_verified = [made(PRUNED, name, 1.0, [(0, 0, 0)]) for name in "ab"]
    assert rows(never_verified, "tli")[0].acceptance_rate_low is None
    json.dumps([vars(row) for row in rows(never_verified, "tli")], allow_nan=False)


def test_seconds_are_medians_over_repeats_and_counts_those_of_one_repeat():
    records = [
        made(PRUNED, prompt, seconds, ROUNDS, repeat=repeat)
        for repeat, pair in enumerate([(1.0, 4.0), (9.0, 6.0), (2.0, 5.0)])
        for prompt, seconds in zip("ab", pair, strict=True)
    ]
    row = rows(records, "standard")[0]
    assert row.seconds == 2.0 + 5.0
    assert row.tokens == 20
    assert row.tokens_per_second == 20 / 7
    assert (row.prompts, row.repeats) == (2, 3)


def test_speedups_compare_rows_of_one_temperature():
    cold = Configuration(None, None, AUTOREGRESSIVE, None, 0.0, None)
    records = [made(PLAIN, "a", 8.0, tokens=8), made(cold, "a", 2.0, tokens=8)]
    records += [made(FULL, "a", 4.0, tokens=8), made(PRUNED, "a", 2.0, tokens=8)]
    found = {(row.temperature, row.sampler): row for row in rows(records, "standard")}
    assert list(found) == [(0.0, None), (1.0, None), (1.0, "standard"), (1.0, "tli")]
    assert found[1.0, "tli"].speedup_vs_autoregressive == 4.0
    assert found[1.0, "tli"].speedup_vs_unpruned == 2.0
    assert found[0.0, None].speedup_vs_autoregressive == 1.0


def test_greedy_identity_counts_verdicts_of_one_repeat():
    verdicts = ["identical", "tie", "identical", "different"]
    records = [
        made(PRUNED, str(number), 1.0, repeat=repeat, greedy=verdict)
        for repeat in range(2)
        for number, verdict in enumerate(verdicts)
    ]
    found = greedy_identity([*records, made(PLAIN, "0", 1.0)], exact=True)
    assert found == GreedyIdentity(
        status="error", outputs=4, prompts=4, identical=2, ties=1, different=1, failed=(FailedOutput("tli", "3"),)
    )
    assert greedy_identity(records, exact=False).status == "not required"
    assert greedy_identity(records[:3], exact=True).status == "ok"


def test_speed_per_device_is_that_of_the_executors_devices():
    records = [made(PLAIN, "a", 2.0, tokens=8), made(PRUNED, "a", 1.0, tokens=8)]
    plain, own = rows(records, "standard", {SPECULATIVE: 4})
    assert (plain.devices, plain.tokens_per_second_per_device) == (1, 4.0)
    assert (own.devices, own.tokens_per_second_per_device) == (4, 2.0)
