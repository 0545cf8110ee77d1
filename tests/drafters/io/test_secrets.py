"""1,000 planted pieces of personal data and 25 secrets: found where they stand, and little else is taken for one."""

import json
import random
import string
from pathlib import Path

import pytest

from drafters.io import secrets as privacy
from drafters.io.secrets import SecretFound, find, redact, require_clean, scan

LETTERS, DIGITS, HEX = string.ascii_letters, string.digits, "0123456789abcdef"


def some(chosen: random.Random, alphabet: str, length: int) -> str:
    return "".join(chosen.choice(alphabet) for _ in range(length))


def secrets(chosen: random.Random) -> list[str]:
    """Twenty-five keys in the form of their issuers."""
    mixed = LETTERS + DIGITS
    forms = [
        "hf_" + some(chosen, LETTERS, 34), "api_org_" + some(chosen, LETTERS, 34), "sk-" + some(chosen, mixed, 48),
        "sk-proj-" + some(chosen, mixed, 40), "sk-ant-" + some(chosen, mixed, 40), "ghp_" + some(chosen, mixed, 36),
        "gho_" + some(chosen, mixed, 36), "ghs_" + some(chosen, mixed, 36), "github_pat_" + some(chosen, mixed, 60),
        "glpat-" + some(chosen, mixed, 20), "AKIA" + some(chosen, string.ascii_uppercase + DIGITS, 16),
        "ASIA" + some(chosen, string.ascii_uppercase + DIGITS, 16), "AIza" + some(chosen, mixed, 35),
        "ya29." + some(chosen, mixed, 40), "xoxb-" + some(chosen, DIGITS, 12) + "-" + some(chosen, mixed, 24),
        "xoxp-" + some(chosen, mixed, 30), "wandb_v1_" + some(chosen, mixed, 40), "pypi-" + some(chosen, mixed, 60),
        "npm_" + some(chosen, mixed, 36), "dckr_pat_" + some(chosen, mixed, 27), "sk_live_" + some(chosen, mixed, 24),
        "rk_test_" + some(chosen, mixed, 24), "SG." + some(chosen, mixed, 22) + "." + some(chosen, mixed, 43),
        "key-" + some(chosen, HEX, 32),
        "eyJ" + some(chosen, mixed, 20) + ".eyJ" + some(chosen, mixed, 30) + "." + some(chosen, mixed, 43),
    ]  # fmt: skip
    return forms


def planted(kind: str, chosen: random.Random) -> tuple[str, str]:
    """(value, the text around it with ``{}`` in its place)."""
    mixed = LETTERS + DIGITS
    if kind == "EMAIL":
        name = some(chosen, mixed, 1) + some(chosen, mixed + "._+-", chosen.randint(0, 10)) + some(chosen, mixed, 1)
        host = (
            some(chosen, mixed, chosen.randint(2, 12)) + "." + chosen.choice(["com", "org", "co.uk", "dev", "berlin"])
        )
        return f"{name}@{host}", chosen.choice(["# author: {}\n", "<{}>", "mailto:{}?x", 'to = "{}"', "({}), and"])
    if kind == "IP_ADDRESS" and chosen.random() < 0.7:
        value = ".".join(str(chosen.randint(1, 223)) for _ in range(4))
        return value.replace("127.", "128."), chosen.choice(
            ["host={}:80", 'connect("{}")', "ping {} \n", "http://{}/x"]
        )
    if kind == "IP_ADDRESS":
        return ":".join(some(chosen, HEX, 4) for _ in range(8)), chosen.choice(['"{}"', "addr {} up", "[{}]:443"])
    if kind == "PASSWORD":
        value = some(chosen, mixed + "!#%*", chosen.randint(6, 16))
        return value, chosen.choice(['password = "{}"', "'passwd': '{}'", 'PWD="{}"', "db_password => '{}'"])
    if chosen.random() < 0.5:
        return chosen.choice(secrets(chosen)), chosen.choice(['token = "{}"', "Bearer {}", "export X={}\n", "-u {} "])
    return some(chosen, mixed, 32), chosen.choice(['api_key = "{}"', "SECRET_KEY={}\n", '"client_secret": "{}"'])


@pytest.mark.parametrize(("kind", "recall"), [("EMAIL", 0.95), ("IP_ADDRESS", 0.95), ("KEY", 0.8), ("PASSWORD", 0.8)])
def test_a_thousand_planted_pieces(kind, recall):
    chosen = random.Random(kind)
    missed = 0
    for _ in range(250):
        value, around = planted(kind, chosen)
        text = "def f():\n    " + around.replace("{}", value) + "\n    return 1\n"
        found = find(text, detectors=False)  # the patterns alone; detectors can only add
        missed += not any(text[one.start : one.stop] == value and one.kind == kind for one in found)
    assert 1 - missed / 250 >= recall, f"{missed} of 250 missed"


def test_what_only_looks_like_it_stays():
    """Precision on this project's own source: a hundred files, no personal data, no secrets."""
    source = sorted((Path(privacy.__file__).parents[1]).rglob("*.py"))
    found = {
        (path.name, text[one.start : one.stop])
        for path in source
        for text in [path.read_text()]
        for one in find(text, detectors=False)
    }
    assert len(source) > 60
    assert found == set()


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4.5", "127.0.0.1", "::1", "std::vector", "a::b", "12:30:45", "00:1A:2B", "@decorator", "x@y",
        'password = "${PASSWORD}"', 'api_key = "your_api_key_goes_here"', 'password: "****"', "secret_key = None",
        "token: str = 'abc'", "sha256:" + "ab" * 32, "sk-learn", "hf_transfer", "key = value",
    ],
)  # fmt: skip
def test_lookalikes(text):
    assert redact(text) == text


def test_redaction_says_what_stood_there_and_keeps_the_rest():
    assert redact("Mail me@example.com from 10.1.2.3!") == "Mail <EMAIL> from <IP_ADDRESS>!"
    assert redact('url = "https://me:hunter22@host/x"') == 'url = "https://me:<PASSWORD>@host/x"'
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"
    assert redact(f"a\n{key}\nb") == "a\n<KEY>\nb"


def test_twenty_five_secrets_in_every_kind_of_file(package, monkeypatch):
    monkeypatch.setattr(privacy, "_detectors", lambda text: ())  # the patterns alone must find them
    chosen = random.Random(1)
    planted = secrets(chosen)
    assert len(planted) == 25
    names = ["README.md", "drafters.json", "tokenizer.json", "eval/report.json", "eval/records.jsonl"]
    (package / "eval").mkdir()
    for secret in planted:
        for name in names:
            path = package / name
            good = path.read_bytes() if path.exists() else None
            path.write_text(json.dumps({"x": "y\n", "note": f"use {secret} here"}))
            assert [(found, kind) for found, _, kind in scan(package)] == [(name, "KEY")], secret
            path.unlink() if good is None else path.write_bytes(good)
        weights = package / "tail.safetensors"
        good = weights.read_bytes()
        weights.write_bytes(good + b"\0" + secret.encode())
        assert [name for name, _, _ in scan(package)] == ["tail.safetensors"], secret
        weights.write_bytes(good)


def test_a_clean_package_passes_and_a_finding_is_not_repeated(package):
    require_clean(package)
    secret = "hf_" + "aB3" * 12
    (package / "README.md").write_text(f"line\n{secret}\n")
    with pytest.raises(SecretFound, match=r"README\.md:2 \(key\)") as caught:
        require_clean(package)
    assert secret not in str(caught.value)


def test_detectors_add_to_the_patterns():
    pytest.importorskip("detect_secrets", reason="pip install detect-secrets")
    bot = "bot 110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1 end"
    assert redact(bot) != bot
    assert find(bot, detectors=False) == []
