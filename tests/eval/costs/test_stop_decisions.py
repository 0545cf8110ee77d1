"""What is inside of the clock that times a decision."""

from types import SimpleNamespace

import torch

from drafters.stop.policies.confidence import Confidence
from eval.costs import stop_decisions, timing


def test_what_runs_ahead_of_a_decision_is_outside_of_its_clock(monkeypatch):
    now, events = [0.0], []

    class Deciding(Confidence):
        def should_continue(self, features, drafted):
            if features is not None:
                now[0] += 0.5
                events.append("decision")
            return super().should_continue(features, drafted)

    def ahead():
        now[0] += 100.0
        events.append("forward")

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    assert stop_decisions.decision_seconds(Deciding(), 16, 4, torch.device("cpu"), before=ahead) == 0.5
    assert events == ["forward", "decision"] * (4 + stop_decisions.WARM_UP)
