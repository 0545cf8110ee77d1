"""`make doctor`: every failing line names what was expected, what was found, and the command that puts it right."""

import copy
import functools

import huggingface_hub
import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM, AutoTokenizer

from drafters.errors import DraftersError
from drafters.io.paths import ZOO
from drafters.models.borrowed import write_borrowed
from pipeline.config import hydra_config
from pipeline.doctor import doctor, machine_checks
from pipeline.doctor.asked_checks import text_findings
from pipeline.doctor.finding import FAIL, OK, WARN
from pipeline.doctor.machine_checks import machine_findings
from pipeline.doctor.model_checks import model_findings


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def offline(self, *args, **kwargs):
        raise ConnectionError("no network in tests")

    monkeypatch.setattr(huggingface_hub.HfApi, "whoami", offline)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", offline)
    monkeypatch.delenv("HF_TOKEN", raising=False)


@functools.cache
def composed():
    return hydra_config.load(["stage=eval"])


def found(**changes: object) -> dict:
    """Findings by check for the embedded pair with these settings of it changed; others by ``device`` and so on."""
    cfg = copy.deepcopy(composed())
    for name, value in changes.items():
        OmegaConf.update(cfg, name.replace("__", ".") if "__" in name or name == "device" else f"pair.{name}", value)
    result = {finding.check: finding for finding in (*machine_findings(cfg), *model_findings(cfg))}
    assert all(finding.fix for finding in result.values() if finding.state != OK)
    return result


def test_the_embedded_pair_is_ready():
    checks = found()
    assert [name for name, finding in checks.items() if finding.state == FAIL] == []
    assert "5.1 M parameters, 16,384 tokens" in checks["target"].text
    assert checks["tokenizers"].text == "the same, with equally many rows"
    assert "apache-2.0" in checks["licence"].text


def test_models_that_are_not_there():
    checks = found(target=str(ZOO / "nonesuch"), drafter="org/name")
    assert checks["target"].state == FAIL
    assert "nonesuch" in checks["target"].text
    assert "org/name: expected its newest commit from the Hub, or from its local cache" in checks["drafter"].text
    assert "pair.drafter=DIR" in checks["drafter"].fix
    assert found(drafter="???")["drafter"].text == "not set"


def test_a_drafter_that_borrows_is_checked_with_its_target(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAFTERS_CACHE", str(tmp_path / "cache"))
    for name in ("target", "drafter"):  # one model as both: all of it is equal
        model = AutoModelForCausalLM.from_pretrained(ZOO / "foreign", dtype=torch.bfloat16)
        model.save_pretrained(tmp_path / name)
        AutoTokenizer.from_pretrained(ZOO / "foreign").save_pretrained(tmp_path / name)
    write_borrowed(tmp_path / "drafter", tmp_path / "target", target_id="org/target")
    checks = found(target=str(tmp_path / "target"), drafter=str(tmp_path / "drafter"))
    assert checks["drafter"].state == OK
    assert "drafter weights" not in checks  # nothing is wrong with them
    assert checks["tokenizers"].text == "the same, with equally many rows"
    alone = found(target="org/name", drafter=str(tmp_path / "drafter"))["drafter"]
    assert alone.state == WARN
    assert "Give org/target as its target" in alone.text


def test_a_pinned_model_without_a_network():
    commit = "a" * 40
    checks = found(drafter="org/nonesuch", drafter_revision=commit)
    assert checks["drafter"].state == FAIL
    assert (
        f"expected revision {commit} from the Hub, or from its local cache, got ConnectionError"
        in checks["drafter"].text
    )
    assert "tokenizers" not in checks


def test_tokenizers_that_differ():
    drafter = str(ZOO / "foreign")
    two = found(drafter=drafter, foreign=None)["tokenizers"]
    # Shares are of the target's tokens: that the drafter's 4,096 are nearly all known to the target says little.
    assert two.text.startswith(
        "different; 3,756 of the target's 16,384 tokens can be proposed (22.9%); the drafter reads"
    )
    assert (two.state, "eval.samplers=[slem,slrs]" in two.fix) == (WARN, True)
    obeyed = found(drafter=drafter, foreign=False)["tokenizers"]
    assert obeyed.text.startswith("taken as one, as pair.foreign=false says; ")
    assert "ids spell other text, first id" in obeyed.text
    assert (obeyed.state, "pair.foreign=null" in obeyed.fix) == (WARN, True)


def test_a_licence_that_is_not_known(tmp_path):
    for path in (ZOO / "drafter").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    checks = found(drafter=str(tmp_path))
    assert checks["licence"].state == WARN
    assert "package.licence=" in checks["licence"].fix
    named = found(drafter=str(tmp_path), package__licence="mit")
    assert named["licence"].text.startswith("mit")


def test_what_the_machine_lacks(tmp_path, monkeypatch):
    assert machine_checks.python((3, 10, 2)).state == FAIL
    assert "make setup PYTHON=" in machine_checks.python((3, 10, 2)).fix
    assert machine_checks.disk(tmp_path / "runs" / "deep", need=1e18).state == WARN
    assert machine_checks.disk(tmp_path / "runs" / "deep", need=1).state == OK
    monkeypatch.setattr("drafters.models.devices.torch.cuda.is_available", lambda: False)
    checks = found(device="cuda")
    assert (checks["device"].state, checks["memory"].state) == (FAIL, FAIL)


def test_memory_that_does_not_suffice(monkeypatch):
    monkeypatch.setattr("pipeline.doctor.model_checks._free_ram", lambda: 1 << 20)
    memory = found(device="cpu")["memory"]
    assert memory.state == FAIL
    assert memory.fix.startswith('make ... ARGS="dtype=bf16"')


def test_versions_out_of_range(monkeypatch):
    real = machine_checks.metadata.version
    versions = {"lightning": "2.6.2", "transformers": "4.1"}
    monkeypatch.setattr(machine_checks.metadata, "version", lambda name: versions.get(name) or real(name))
    texts = [finding.text for finding in machine_checks.packages() if finding.state == FAIL]
    assert sorted(text.split(":")[0] for text in texts) == ["lightning", "transformers"]


def test_a_mistyped_option_and_the_exit_status(capsys):
    assert doctor.main(["pair=nonesuch"]) == 1
    out = capsys.readouterr().out
    assert "no such pair; choose one of" in out
    assert "failed: 1" in out


def test_a_token_is_never_shown(monkeypatch, capsys):
    secret = "hf_" + "s3cret" * 6
    monkeypatch.setenv("HF_TOKEN", secret)
    cfg = copy.deepcopy(composed())
    cfg.pair.name = secret
    monkeypatch.setattr(hydra_config, "load", lambda overrides: cfg)
    doctor.main([])
    captured = capsys.readouterr()
    assert secret not in captured.out + captured.err
    assert "pair=***" in captured.out
    assert "could not be checked (ConnectionError)" in captured.out


def test_roles_of_tokens(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a" * 34)
    for role, state in (("read", WARN), ("write", OK), ("fineGrained", OK)):
        said = {"name": "me", "auth": {"accessToken": {"role": role}}}
        monkeypatch.setattr(huggingface_hub.HfApi, "whoami", lambda self, said=said: said)
        assert machine_checks.token().state == state


def test_inspect_from_the_command_line(capsys):
    from pipeline import inspect

    assert inspect.main([str(ZOO / "target")]) == 0
    assert capsys.readouterr().out.endswith("accepted\n")
    assert inspect.main([]) == 2
    with pytest.raises(DraftersError, match="expected an existing folder"):
        inspect.main([str(ZOO / "nonesuch")])


def test_what_the_corpus_holds_is_said(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"story": "once upon a time"}\n')
    cfg = hydra_config.load(["stage=eval", "pair=local", f"corpus.path={tmp_path}", "suite=pycode"])
    found = {item.check: item.text for item in text_findings(cfg)}
    assert found["corpus"] == "local: 1 .jsonl: text of column story"
