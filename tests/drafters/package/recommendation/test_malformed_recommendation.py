"""A malformed, hostile or unbounded recommended.json is never taken as advice: reading it says which field is wrong."""

import json

import pytest

from drafters.package.reader import load
from drafters.package.recommendation.recommended_json import (
    NAME,
    Choice,
    Use,
    parse,
    read_recommendation,
    to_json,
    write_recommendation,
)
from drafters.package_error import PackageError
from drafters.samplers import catalog


def refused(package, text: str, field: str) -> PackageError:
    """Both ways of meeting a bad file: reading it raises, loading the package goes on without it."""
    (package / NAME).write_text(text)
    with pytest.raises(PackageError) as caught:
        read_recommendation(package)
    error = caught.value
    assert (error.file, error.field) == (NAME, field), str(error)
    assert error.expected
    assert error.fix
    return error


def changed(made, where: tuple, value) -> str:
    """The file's text with one value changed; ... deletes it."""
    data = json.loads(to_json(made()))
    at = data
    for step in where[:-1]:
        at = at[step]
    if value is ...:
        del at[where[-1]]
    else:
        at[where[-1]] = value
    return json.dumps(data)


BEST = ("choices", 0)
BAD = [
    (("schema",), 2, "schema"),
    (("schema",), True, "schema"),
    (("schema",), ..., "schema"),
    (("extra",), 1, "extra"),
    (("package",), "c" * 63, "package"),
    (("package",), "c" * 64, "package"),  # another package's
    (("target",), "org/target", "target"),
    (("target", "revision"), "main", "target.revision"),
    (("target", "id"), "../x y", "target.id"),
    (("device",), "tpu", "device"),
    (("device",), ["cpu"], "device"),
    (("dtype",), "fp 32", "dtype"),
    (("threads",), 0, "threads"),
    (("threads",), 2.0, "threads"),
    (("code",), "main", "code"),
    (("choices",), [], "choices"),
    (("choices",), {}, "choices"),
    (("choices",), [1], "choices[0]"),
    (("choices", 1, "temperature"), 0, "choices[1]"),  # two of one law
    ((*BEST, "temperature"), -1, "choices[0].temperature"),
    ((*BEST, "temperature"), "0", "choices[0].temperature"),
    ((*BEST, "top_k"), 1.5, "choices[0].top_k"),
    ((*BEST, "top_p"), 0, "choices[0].top_p"),
    ((*BEST, "top_p"), 1.01, "choices[0].top_p"),
    ((*BEST, "by"), "guess", "choices[0].by"),
    ((*BEST, "prompts"), -1, "choices[0].prompts"),
    ((*BEST, "predicted"), 1e9, "choices[0].predicted"),
    ((*BEST, "predicted"), ..., "choices[0].predicted"),
    ((*BEST, "reason"), "a\nb", "choices[0].reason"),
    ((*BEST, "reason"), "\x1b[2J", "choices[0].reason"),
    ((*BEST, "reason"), "", "choices[0].reason"),
    ((*BEST, "speedup", "low"), 5, "choices[0].speedup.low"),
    ((*BEST, "speedup", "high"), None, "choices[0].speedup.high"),
    ((*BEST, "speedup", "median"), 1, "choices[0].speedup.median"),
    ((*BEST, "next"), [{}] * 99, "choices[0].next"),
    ((*BEST, "next", 0, "temperature"), 1, "choices[0].next[0].temperature"),
    ((*BEST, "next", 0, "use", "sampler"), "typical", "choices[0].next[0].use.sampler"),
    ((*BEST, "use", "code"), "x.py", "choices[0].use.code"),
    ((*BEST, "use", "form"), "../../other", "choices[0].use.form"),
    ((*BEST, "use", "form"), None, "choices[0].use.form"),
    ((*BEST, "use", "sampler"), None, "choices[0].use.form"),  # plain decoding, and yet a form
    ((*BEST, "use", "sampler"), "tail", "choices[0].use.form"),
    ((*BEST, "use", "sampler"), ["tli"], "choices[0].use.sampler"),
    ((*BEST, "use", "options"), [], "choices[0].use.options"),
    ((*BEST, "use", "options"), {"path": "/etc/passwd"}, "choices[0].use.options"),
    ((*BEST, "use", "options"), {"lenience": 0.5}, "choices[0].use.options"),
    ((*BEST, "use", "options"), {"accept_threshold": 0.1}, "choices[0].use.options"),
    ((*BEST, "use", "stop"), "os.system", "choices[0].use.stop"),
    ((*BEST, "use", "stop"), None, "choices[0].use.stop"),
    ((*BEST, "use", "length"), None, "choices[0].use.length"),  # static needs one
    ((*BEST, "use", "length"), 0, "choices[0].use.length"),
    ((*BEST, "use", "length"), 65, "choices[0].use.length"),
    ((*BEST, "use", "length"), True, "choices[0].use.length"),
    ((*BEST, "use"), vars(Use("package", "tli", {}, "heuristic", 2)), "choices[0].use.length"),  # it starts with 5
    (("choices", 1, "use", "length"), 3, "choices[1].use.length"),  # of plain decoding
    (("choices", 1, "use", "options"), {"nodes": 3}, "choices[1].use.options.nodes"),
]


@pytest.mark.parametrize(("where", "value", "field"), BAD)
def test_malformed(package, made, where, value, field):
    refused(package, changed(made, where, value), field)


TREES = [
    ("rrs", {"branching": [64, 64, 64, 64, 64, 64, 64, 64]}, "options.branching"),
    ("rrs", {"branching": [8, 8]}, "options.branching"),
    ("rrs", {"branching": [1] * 65}, "options.branching"),
    ("rrs", {"branching": [10**400]}, "options.branching"),
    ("rrs", {"branching": [[[1]]]}, "options.branching"),
    ("rrs", {"branching": []}, "options.branching"),
    ("rrs", {"branching": [True]}, "options.branching"),
    ("rrs", {"branching": "runs/x"}, "options.branching"),
    ("rrs", {"branching": [0]}, "options"),  # small, and no tree
    ("rrs", {"branching": [2, [1, 1, 1]]}, "options"),
    ("race_tree", {"nodes": 1 << 40}, "options.nodes"),
    ("race_tree", {"depth": 0}, "options.depth"),
    ("race_tree", {"rank_law": [2.0]}, "options.rank_law"),
    ("race_tree", {"rank_law": [0.9, 0.9]}, "options"),
    ("race_tree", {"rank_law": [0.001] * 65}, "options.rank_law"),
    ("traversal", {"siblings": "eval"}, "options.siblings"),
]  # fmt: skip


@pytest.mark.parametrize(("sampler", "options", "field"), TREES)
def test_trees_are_bounded_before_they_are_laid_out(package, made, sampler, options, field, monkeypatch):
    if field.startswith("options."):  # not even given to its builder
        monkeypatch.setattr(catalog, "build", lambda *args, **more: pytest.fail("built"))
    use = {"form": "package", "sampler": sampler, "options": options, "stop": "static", "length": 3}
    refused(package, changed(made, (*BEST, "use"), use), f"choices[0].use.{field}")


@pytest.mark.parametrize("use", [
    Use("package", "race_tree", {"branching": [3, [2, 0, 1]], "nodes": 15, "depth": None, "rank_law": [0.6, 0.2]}, "static", 3),
    Use("package", "rrs", {"branching": [2, 2, 2]}, "static", 3),
    Use("package", "greedy", {"branching": "batch"}, "static", 1),
    Use("package", "slrs", {}, "static", 8),
    Use("package", "rdk", {}, "cost_aware", None),
    Use("package", "rdk_exact", {}, "disco", 20),
    Use("tail", "tail", {}, "adaedl", 64),
    Use("unpruned", "standard", {}, "static", 64),
])  # fmt: skip
def test_what_may_be_recommended(made, tools, use):
    best = Choice(**tools.rated(use), temperature=0.7, reason="x")
    text = to_json(made(choices=(best,)))
    assert parse(json.loads(text)).choices[0].use == use


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "JSON"),
        ("[]", "JSON"),
        ("{", "JSON"),
        ('{"schema": 1, "schema": 1}', "schema"),
        ('{"schema": NaN}', "JSON"),
        ("[" * 100_000, "JSON"),
        ('{"schema": 1' + " " * (300 << 10) + "}", "size"),
    ],
)
def test_not_even_json(package, text, field):
    refused(package, text, field)


def test_not_a_file(package, made, tmp_path):
    write_recommendation(tmp_path / "elsewhere.json", made())
    beside = package.with_name(f"{package.name}.{NAME}")
    beside.symlink_to("/etc/hostname")
    with pytest.raises(PackageError, match="link"):
        read_recommendation(package)
    beside.unlink()
    beside.mkdir()
    with pytest.raises(PackageError, match="regular file"):
        read_recommendation(package)
    with pytest.warns(UserWarning, match=r"recommendation not used: .*expected a regular file"):
        assert load(package, device="cpu").recommendation is None
    beside.rmdir()
    with pytest.raises(PackageError, match=r"none\. Run `make eval`"):
        read_recommendation(package)
