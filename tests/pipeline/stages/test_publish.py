"""Stage publish: the folder holds everything, stays a package, and nothing leaves without certificate, token and name."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from omegaconf import OmegaConf
from rich.console import Console

from drafters.io.manifest import read_manifest
from drafters.io.secrets import SecretFound
from drafters.package.reader import load
from drafters.package.recommendation.recommended_json import (
    Choice,
    Recommendation,
    Speedup,
    Target,
    Use,
    write_recommendation,
)
from drafters.package_error import PackageError
from drafters.publish.licences import LicenceError
from drafters.publish.upload import Receipt
from eval.report.html.page import render
from eval.report.schema import to_json
from eval.report.sources import read_report
from pipeline.errors import ConfigError
from pipeline.runner.stage import Context
from pipeline.stages import publish as stage
from tests.eval.report.conftest import small

PACKAGE = Path(__file__).parents[2] / "drafters" / "package" / "formats" / "v1"
ROW = {
    "sampler": "tli", "temperature": 1.0, "drafter": "package", "acceptance_rate": 0.5, "acceptance_rate_low": 0.4,
    "acceptance_rate_high": 0.6, "block_efficiency": 2.0, "tokens_per_second": 10.0, "speedup_vs_autoregressive": 1.2,
}  # fmt: skip
REPORT = {
    "device": "cpu", "dtype": "fp32", "threads": 2, "costs": {"t": 0.01, "d_pruned": 0.002}, "rows": [ROW],
    "prompts": {"suite": "pycode", "count": 4, "max_new_tokens": 48, "repeats": 1},
}  # fmt: skip
CERTIFICATE = {"schema": 1, "code": "c" * 64, "samplers": {"tli": {"status": "exact"}}}


@pytest.fixture
def evaluation(tmp_path):
    folder = tmp_path / "eval"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(REPORT))
    (folder / "report.csv").write_text("sampler\ntli\n")
    (folder / "records.jsonl").write_text("{}\n")
    return folder


def settings(**changes):
    return OmegaConf.structured(stage.PublishConfig(**changes))


def lay_out(tmp_path, evaluation, certificate=CERTIFICATE, **changes):
    folder = tmp_path / "upload"
    shutil.rmtree(folder, ignore_errors=True)
    return folder, stage.lay_out(settings(**changes), PACKAGE, evaluation, certificate, folder)


@pytest.mark.parametrize("own", [True, False])
def test_answers_to_private_prompts_stay_at_home(tmp_path, evaluation, own):
    made = small()
    made = replace(made, texts=replace(made.texts, own=own))
    (evaluation / "report.json").write_bytes(to_json(made))
    (evaluation / "report.html").write_bytes(render(made))
    folder, _ = lay_out(tmp_path, evaluation, None)
    sent = read_report(folder / "eval" / "report.json")
    assert sent == (made if own else replace(made, texts=None))
    assert ("evil" in (folder / "eval" / "report.html").read_text(encoding="utf-8")) == own
    assert "evil" in (evaluation / "report.html").read_text(encoding="utf-8")


def test_the_folder(tmp_path, evaluation):
    folder, tag = lay_out(tmp_path, evaluation, repo="me/tiny")
    package = load(folder, device="cpu")
    assert tag == f"v1-{package.manifest.key}"
    assert json.loads((folder / "certificate.json").read_text()) == CERTIFICATE
    assert json.loads((folder / "eval" / "report.json").read_text()) == REPORT
    assert (folder / "eval" / "report.csv").exists()
    assert not (folder / "eval" / "records.jsonl").exists()
    card = ModelCard.load(folder / "README.md")
    assert (card.data.license, card.data.eval_results[0].metric_value) == ("mit", 0.5)
    for path in PACKAGE.rglob("*"):
        if path.is_file():
            assert (folder / path.relative_to(PACKAGE)).read_bytes() == path.read_bytes()


def recommendation(**changes) -> Recommendation:
    best = Choice(
        use=Use("package", "tli", {}, "static", 4), speedup=Speedup(1.4, 1.2, 1.6), predicted=1.3, prompts=9,
        temperature=1.0, reason="The fastest.",
    )  # fmt: skip
    values = {
        "package": read_manifest(PACKAGE).content, "target": Target("t", None), "pair": "x", "suite": "pycode",
        "device": "cpu", "dtype": "fp32", "threads": 1, "code": "c" * 64, "choices": (best,), **changes,
    }  # fmt: skip
    return Recommendation(**values)


def test_the_recommendation_goes_with_it(tmp_path, evaluation):
    folder, _ = lay_out(tmp_path, evaluation)
    assert not (folder / "recommended.json").exists()
    write_recommendation(evaluation / "recommended.json", recommendation())
    folder, _ = lay_out(tmp_path, evaluation)
    assert load(folder, device="cpu").recommendation == recommendation()
    assert "| 1 | tli | package | 4 | 1.40 (1.20-1.60) | 1.30 | 9 |" in (folder / "README.md").read_text()


def test_one_that_lies_beside_the_package_goes_with_it_where_the_evaluation_has_none(tmp_path, evaluation, monkeypatch):
    monkeypatch.setattr(stage, "find_recommendation", lambda package: evaluation / "beside.json")
    write_recommendation(evaluation / "beside.json", recommendation(pair="beside"))
    folder, _ = lay_out(tmp_path, evaluation)
    assert load(folder, device="cpu").recommendation.pair == "beside"
    write_recommendation(evaluation / "recommended.json", recommendation(pair="own"))
    folder, _ = lay_out(tmp_path, evaluation)
    assert load(folder, device="cpu").recommendation.pair == "own"


def test_no_broken_recommendation_is_published(tmp_path, evaluation):
    write_recommendation(evaluation / "recommended.json", recommendation(package="d" * 64))
    with pytest.raises(PackageError, match=r"recommended\.json: package: expected .* got d{64}"):
        lay_out(tmp_path, evaluation)


def test_a_secret_in_the_evaluation_stops_it(tmp_path, evaluation):
    (evaluation / "report.csv").write_text("ghp_" + "aB3" * 12)
    with pytest.raises(SecretFound, match=r"eval/report\.csv:1"):
        lay_out(tmp_path, evaluation)


def test_another_licence_is_refused(tmp_path, evaluation):
    with pytest.raises(LicenceError, match="inherits"):
        lay_out(tmp_path, evaluation, licence="apache-2.0")


def context(tmp_path, evaluation, **changes) -> Context:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    cfg = OmegaConf.create({"runs_dir": str(tmp_path), "publish": settings(**changes)})
    return Context(cfg, {"package": PACKAGE, "eval": evaluation}, out, Console(record=True, width=200))


def shown(ready: Context) -> str:
    stage.show(ready.out, ready.inputs, ready.console)
    return ready.console.export_text()


def test_by_default_nothing_is_sent(tmp_path, evaluation, monkeypatch):
    monkeypatch.setattr(stage, "publish_folder", lambda *args, **kwargs: pytest.fail("sent"))
    ready = context(tmp_path, evaluation)
    stage.run(ready)
    assert "nothing was sent" in shown(ready)
    stage.run(ready)  # what a killed run left is laid out anew


def test_nothing_is_sent_without_certificate_or_token(tmp_path, evaluation, monkeypatch):
    monkeypatch.setattr(stage, "publish_folder", lambda *args, **kwargs: pytest.fail("sent"))
    with pytest.raises(ConfigError, match="make lossless"):
        stage.run(context(tmp_path, evaluation, repo="me/tiny", push=True))
    monkeypatch.setattr(stage, "read_certificate", lambda runs: CERTIFICATE)
    monkeypatch.setattr(stage, "get_token", lambda: None)
    with pytest.raises(ConfigError, match="hf auth login"):
        stage.run(context(tmp_path, evaluation, repo="me/tiny", push=True))


@pytest.mark.parametrize(
    ("receipt", "said"),
    [
        (Receipt("me/tiny", "a" * 40, 7, None, False, True), 'make publish ARGS="repo=me/tiny push=true merge=true"'),
        (Receipt("me/tiny", "a" * 40, None, "v1", True, True), f"published (public): drafters.load('me/tiny', revision='{'a' * 40}')"),
    ],
)  # fmt: skip
def test_what_was_sent_is_told(tmp_path, evaluation, monkeypatch, receipt, said):
    calls = []
    monkeypatch.setattr(stage, "publish_folder", lambda *args, **kwargs: calls.append((args[1:], kwargs)) or receipt)
    monkeypatch.setattr(stage, "read_certificate", lambda runs: CERTIFICATE)
    monkeypatch.setattr(stage, "get_token", lambda: "hf_x")
    ready = context(tmp_path, evaluation, repo="me/tiny", push=True, merge=True)
    stage.run(ready)
    ((repo, folder, tag), options) = calls[0]
    assert (repo, folder, tag[:3], options) == (
        "me/tiny",
        ready.out / "upload",
        "v1-",
        {"merge": True, "public": False},
    )
    assert said in shown(ready)
    assert "hf_x" not in (ready.out / "receipt.json").read_text()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"repo": "name"}, "org/name"),
        ({"repo": "a/../b"}, "org/name"),
        ({"push": True}, "needs publish.repo"),
        ({"repo": "a/b", "merge": True}, "needs publish.merge"),
        ({"repo": "a/b", "push": True, "public": True}, "needs publish.merge"),
    ],
)
def test_impossible_settings(changes, reason):
    with pytest.raises(ConfigError, match=reason):
        stage.check(OmegaConf.create({"publish": settings(**changes)}))
