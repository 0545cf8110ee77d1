"""recommended.json: what is written comes back, and nothing malformed, foreign or unbounded is ever taken as advice."""

import copy
import json
import warnings

import pytest

from drafters.package import recommendation as module
from drafters.package.artifact import load
from drafters.package.errors import PackageError
from drafters.package.manifest import read_manifest
from drafters.package.recommendation import (
    NAME,
    Choice,
    Rated,
    Recommendation,
    Speedup,
    Target,
    Use,
    find_recommendation,
    parse,
    read_recommendation,
    to_json,
    write_recommendation,
)
from drafters.probs import Sampling
from drafters.samplers import catalog

TLI = Use("package", "tli", {}, "static", 5)
TREE = Use(
    "package",
    "race_tree",
    {"branching": (3, (2, 0, 1)), "nodes": 15, "depth": None, "rank_law": (0.6, 0.2)},
    "static",
    3,
)


def rated(use, ratio=1.2, **changes) -> dict:
    values = {"use": use, "speedup": Speedup(ratio, ratio - 0.1, ratio + 0.1), "predicted": ratio, "prompts": 12}
    return values | changes


def made(package: str, **changes) -> Recommendation:
    greedy = Choice(
        **rated(TLI, 1.6), temperature=0.0, reason="It is the fastest.",
        next=(Rated(**rated(Use("tail", "block", {}, "svip", 20))), Rated(**rated(TREE, by="model"))),
    )  # fmt: skip
    plain = Choice(**rated(Use(), 1.0), temperature=1.0, top_k=5, top_p=0.9, reason="Nothing beat plain decoding.")
    values = {
        "package": package, "target": Target("org/target", "a" * 40), "pair": "tiny", "suite": "pycode", "device": "cpu",
        "dtype": "fp32", "threads": 2, "code": "c" * 64, "choices": (greedy, plain), **changes,
    }  # fmt: skip
    return Recommendation(**values)


@pytest.fixture
def content(package):
    return read_manifest(package).content


@pytest.mark.parametrize("where", ["inside", "beside"])
def test_round_trip(package, content, where):
    path = package / NAME if where == "inside" else package.with_name(f"{package.name}.{NAME}")
    assert find_recommendation(package) is None
    assert load(package, device="cpu").recommendation is None
    write_recommendation(path, made(content))
    assert find_recommendation(package) == path
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load(package, device="cpu")
    assert loaded.recommendation == read_recommendation(package) == made(content)
    assert NAME not in loaded.manifest.files
    assert [item.name for item in path.parent.iterdir() if "tmp" in item.name] == []
    assert path.read_text() == to_json(made(content))


def test_inside_comes_before_beside(package, content):
    write_recommendation(package.with_name(f"{package.name}.{NAME}"), made(content, pair="beside"))
    write_recommendation(package / NAME, made(content, pair="inside"))
    assert read_recommendation(package).pair == "inside"


def test_a_choice_is_for_its_law_and_device_alone(content):
    found = made(content)
    greedy, plain = found.choices
    assert found.choice("cpu", Sampling(0.0)) is greedy
    assert found.choice("cpu", Sampling(0.0, 50, 0.5)) is greedy, "filters make no difference to greedy decoding"
    assert found.choice("cpu", Sampling(1.0, 5, 0.9)) is plain
    for other in (Sampling(1.0), Sampling(1.0, 5), Sampling(1.0, 5, 0.8), Sampling(0.99, 5, 0.9)):
        assert found.choice("cpu", other) is None
    assert found.choice("cuda", Sampling(0.0)) is None


def test_the_content_hash_is_of_the_files_alone(package, content, tools):
    tools.reseal(package, key="another", config={"other": 1})
    assert read_manifest(package).content == content
    (package / "LICENSE").write_text("Apache")
    tools.reseal(package)
    assert read_manifest(package).content != content


# --- refused: by an explicit read with an error, by load with a warning
# ---------------------------------------------------------


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


def changed(content: str, where: tuple, value) -> str:
    """The file's text with one value changed; ... deletes it."""
    data = json.loads(to_json(made(content)))
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
def test_malformed(package, content, where, value, field):
    refused(package, changed(content, where, value), field)


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
    ("slrs", {"rule": "shell"}, "options.rule"),
]  # fmt: skip


@pytest.mark.parametrize(("sampler", "options", "field"), TREES)
def test_trees_are_bounded_before_they_are_laid_out(package, content, sampler, options, field, monkeypatch):
    if field.startswith("options."):  # not even given to its builder
        monkeypatch.setattr(catalog, "build", lambda *args, **more: pytest.fail("built"))
    use = {"form": "package", "sampler": sampler, "options": options, "stop": "static", "length": 3}
    refused(package, changed(content, (*BEST, "use"), use), f"choices[0].use.{field}")


@pytest.mark.parametrize("use", [
    TREE,
    Use("package", "rrs", {"branching": [2, 2, 2]}, "static", 3),
    Use("package", "greedy", {"branching": "batch"}, "static", 1),
    Use("package", "slrs", {"rule": "longest"}, "static", 8),
    Use("package", "rdk", {}, "cost_aware", None),
    Use("package", "rdk_exact", {}, "disco", 20),
    Use("tail", "tail", {}, "adaedl", 64),
    Use("unpruned", "standard", {}, "static", 64),
])  # fmt: skip
def test_what_may_be_recommended(content, use):
    best = Choice(**rated(use), temperature=0.7, reason="x")
    text = to_json(made(content, choices=(best,)))
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


def test_not_a_file(package, content, tmp_path):
    write_recommendation(tmp_path / "elsewhere.json", made(content))
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


@pytest.mark.parametrize("bad", ["other package", "malformed"])
def test_load_goes_on_without_a_broken_one_and_says_why(package, content, bad):
    text = to_json(made("d" * 64)) if bad == "other package" else changed(content, (*BEST, "use", "length"), 1000)
    (package / NAME).write_text(text)
    expected = (
        r"package: expected .*, this package's content, got d{64}"
        if bad == "other package"
        else "from 1 to 64, got 1000"
    )
    with pytest.warns(UserWarning, match=rf"recommendation not used: .*{expected}.*`make eval`") as caught:
        assert load(package, device="cpu").recommendation is None
    assert caught[0].filename == __file__


def test_a_seal_that_lists_a_recommendation_is_broken(package, content, tools):
    """Or a package's bytes would depend on how it performed."""
    write_recommendation(package / NAME, made(content))
    tools.reseal(package)
    with pytest.raises(PackageError, match=r"files\.recommended\.json"):
        load(package, device="cpu")


def test_planted_a_reader_that_takes_any_packages(package, content, monkeypatch):
    """Without the comparison the recommendation of another package would be obeyed, and the test above tells."""
    real = module.parse
    monkeypatch.setattr(module, "parse", lambda data, file=NAME: real(dict(data, package=content), file))
    with pytest.raises(pytest.fail.Exception, match="DID NOT WARN"):
        test_load_goes_on_without_a_broken_one_and_says_why(package, content, "other package")


def test_what_the_reader_would_refuse_is_not_written(tmp_path, content):
    path = tmp_path / NAME
    write_recommendation(path, made(content))
    before = path.read_bytes()
    good = made(content)
    bad = copy.copy(good.choices[0])
    object.__setattr__(bad, "use", Use("package", "tli", {"lenience": 0.5}, "static", 5))
    with pytest.raises(PackageError, match="relaxes acceptance"):
        write_recommendation(path, made(content, choices=(bad,)))
    object.__setattr__(bad, "speedup", Speedup(float("nan"), 1, 1))
    with pytest.raises(ValueError, match="JSON compliant"):
        write_recommendation(path, made(content, choices=(bad,)))
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == [NAME]
