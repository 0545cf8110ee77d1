"""The gate's verdicts and its certificate."""

import json
from dataclasses import replace

import pytest

from drafters.samplers import catalog
from drafters.samplers.needs import Need
from eval.lossless import certificate, gate
from eval.lossless.gate import Proof
from eval.lossless.sampled import Evidence

SAMPLES = Evidence(1000, 0.02, 0.999, {"three tokens": 0.3, "lag 1": 0.4})


def proof(**changes):
    return Proof(
        **({"cells": 3, "exact_error": 1e-16, "evidence": SAMPLES, "mutants": 2, "mutants_killed": 2} | changes)
    )


def test_a_whole_proof():
    assert proof().status == "exact"
    assert proof(cells=0, exact_error=None, path_cells=4).status == "pathwise"
    assert proof().entry()["failures"] == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cells": 0, "exact_error": None}, "no toy pair"),
        ({"exact_error": 1e-11}, "exact law off by 1.0e-11"),
        ({"path_cells": 2, "mismatches": 1}, "not plain race decoding's"),
        ({"evidence": None}, "no samples"),
        ({"evidence": Evidence(9, 0.1, 0.9, {"lag 1": 1e-9})}, "lag 1, p = 1.0e-09"),
        ({"greedy_differences": 1}, "temperature 0"),
        ({"batch_differences": 2}, "rest of the batch"),
        ({"impossible_tokens": 1}, "probability 0"),
        ({"relabelling_error": 0.1}, "renumbered"),
        ({"mutants_killed": 1}, "1 planted bugs"),
    ],
)
def test_every_failure_is_said_and_withholds_the_status(changes, says):
    failed = proof(**changes)
    assert failed.status == "not_run"
    assert any(says in failure for failure in failed.failures)


def test_a_sampler_that_nothing_covers_fails_the_gate(monkeypatch):
    needs = (Need(lambda pair: False, "{name} takes no pair"),)
    monkeypatch.setitem(catalog.CATALOG, "picky", replace(catalog.CATALOG["tli"], needs=needs))
    assert gate.exact_part("picky", 0) == (0, 0.0)
    assert gate.paths("picky", "cpu") == (0, 0)
    with pytest.raises(ValueError, match="'picky' takes none of the gate's pairs"):
        gate.evidence("picky")


def test_a_run_over_one_sampler(monkeypatch):
    monkeypatch.setattr(gate, "evidence", lambda name, device: SAMPLES)
    done = []
    verdicts = gate.run(["standard"], workers=1, advance=done.append)
    assert verdicts.passed
    assert len(done) == gate.size(["standard"])
    entry = verdicts.proofs["standard"].entry()
    assert entry["status"] == "exact"
    assert entry["cells"] == len(list(gate.cells("standard"))) > 10
    assert entry["exact_error"] <= 1e-12


def test_certificates_speak_for_their_code_only(tmp_path, monkeypatch):
    assert certificate.read_certificate(tmp_path) is None
    found = certificate.certificate({"tli": proof().entry(), "race": Proof().entry()}, "cpu", "float64")
    folder = tmp_path / "lossless" / "key"
    folder.mkdir(parents=True)
    (folder / "certificate.json").write_text(json.dumps(found))
    read = certificate.read_certificate(tmp_path)
    assert read == found
    assert certificate.status(read, "tli") == "exact"
    assert certificate.status(read, "race") is None
    assert certificate.status(None, "tli") is None
    monkeypatch.setattr(certificate, "code_hash", lambda: "other")
    assert certificate.read_certificate(tmp_path) is None


def test_one_that_came_with_the_code_counts_until_the_code_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(certificate, "SHIPPED", tmp_path / "results")
    found = certificate.certificate({"tli": proof().entry()}, "cpu", "float64")
    (tmp_path / "results" / "cpu").mkdir(parents=True)
    (tmp_path / "results" / "cpu" / "certificate.json").write_text(json.dumps(found))
    assert certificate.read_certificate(tmp_path / "runs") == found | {"shipped": True}
    own = tmp_path / "runs" / "lossless" / "key"
    own.mkdir(parents=True)
    (own / "certificate.json").write_text(json.dumps(found))
    assert certificate.read_certificate(tmp_path / "runs") == found  # one's own comes first
    monkeypatch.setattr(certificate, "code_hash", lambda: "other")
    assert certificate.read_certificate(tmp_path / "runs") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2}'])
def test_what_is_no_certificate_proves_nothing(tmp_path, text):
    folder = tmp_path / "lossless" / "key"
    folder.mkdir(parents=True)
    (folder / "certificate.json").write_text(text)
    assert certificate.read_certificate(tmp_path) is None


def test_the_code_hash_follows_the_code_and_not_what_is_said_of_it(tmp_path, monkeypatch):
    package, samplers = tmp_path / "drafters", tmp_path / "conf" / "sampler"
    samplers.mkdir(parents=True)
    package.mkdir()
    monkeypatch.setattr(certificate, "REPOSITORY", tmp_path)
    monkeypatch.setattr(certificate, "CONF", tmp_path / "conf")

    def hashed(code: str, settings: str = "name: tli\n") -> str:
        (package / "rule.py").write_text(code)
        (samplers / "tli.yaml").write_text(settings)
        return certificate.code_hash()

    plain = hashed("def rule(p, q):\n    return p < q\n")
    assert len(plain) == 64
    assert hashed('"""A rule."""\n\n\ndef rule(p, q):\n    # strict\n    return p < q\n') == plain
    assert hashed("def rule(p, q):\n    return p <= q\n") != plain
    assert hashed("def rule(p, q):\n    return p < q\n", "name: union\n") != plain
