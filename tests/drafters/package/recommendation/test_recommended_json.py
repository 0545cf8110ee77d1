"""recommended.json: what is written comes back, and another package's is never taken as advice."""

import copy
import warnings

import pytest

from drafters.io.manifest import read_manifest
from drafters.package.integrity import PATTERNS
from drafters.package.reader import load
from drafters.package.recommendation import recommended_json as module
from drafters.package.recommendation.recommended_json import (
    NAME,
    Speedup,
    Use,
    find_recommendation,
    read_recommendation,
    to_json,
    write_recommendation,
)
from drafters.package_error import PackageError
from drafters.probs import Sampling


@pytest.mark.parametrize("where", ["inside", "beside"])
def test_round_trip(package, made, where):
    path = package / NAME if where == "inside" else package.with_name(f"{package.name}.{NAME}")
    assert find_recommendation(package) is None
    assert load(package, device="cpu").recommendation is None
    write_recommendation(path, made())
    assert find_recommendation(package) == path
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load(package, device="cpu")
    assert loaded.recommendation == read_recommendation(package) == made()
    assert NAME not in loaded.manifest.files
    assert [item.name for item in path.parent.iterdir() if "tmp" in item.name] == []
    assert path.read_text() == to_json(made())


def test_inside_comes_before_beside(package, made):
    write_recommendation(package.with_name(f"{package.name}.{NAME}"), made(pair="beside"))
    write_recommendation(package / NAME, made(pair="inside"))
    assert read_recommendation(package).pair == "inside"


def test_in_the_hubs_cache_it_is_a_link_to_a_blob(package, made, tmp_path):
    write_recommendation(package / NAME, made())
    cache = tmp_path / "models--me--tiny"
    snapshot = cache / "snapshots" / ("a" * 40)
    (cache / "blobs").mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in package.rglob("*") if path.is_file())):
        blob, link = cache / "blobs" / str(number), snapshot / path.relative_to(package)
        link.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blob)
        link.symlink_to(blob)
    assert load(snapshot, device="cpu").recommendation == read_recommendation(snapshot) == made()
    assert NAME in PATTERNS, "or it would not be downloaded"


def test_a_choice_is_for_its_law_and_device_alone(made):
    found = made()
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


@pytest.mark.parametrize("bad", ["other package", "malformed"])
def test_load_goes_on_without_a_broken_one_and_says_why(package, made, bad):
    text = to_json(made(package="d" * 64) if bad == "other package" else made())
    (package / NAME).write_text(text if bad == "other package" else text.replace('"length": 5', '"length": 1000'))
    expected = (
        r"package: expected .*, this package's content, got d{64}"
        if bad == "other package"
        else "from 1 to 64, got 1000"
    )
    with pytest.warns(UserWarning, match=rf"recommendation not used: .*{expected}.*`make eval`") as caught:
        assert load(package, device="cpu").recommendation is None
    assert caught[0].filename == __file__


def test_a_seal_that_lists_a_recommendation_is_broken(package, made, tools):
    """Or a package's bytes would depend on how it performed."""
    write_recommendation(package / NAME, made())
    tools.reseal(package)
    with pytest.raises(PackageError, match=r"files\.recommended\.json"):
        load(package, device="cpu")


def test_planted_a_reader_that_takes_any_packages(package, content, made, monkeypatch):
    """Without the comparison the recommendation of another package would be obeyed, and the test above tells."""
    real = module.parse
    monkeypatch.setattr(module, "parse", lambda data, file=NAME: real(dict(data, package=content), file))
    with pytest.raises(pytest.fail.Exception, match="DID NOT WARN"):
        test_load_goes_on_without_a_broken_one_and_says_why(package, made, "other package")


def test_what_the_reader_would_refuse_is_not_written(tmp_path, made):
    path = tmp_path / NAME
    write_recommendation(path, made())
    before = path.read_bytes()
    good = made()
    bad = copy.copy(good.choices[0])
    object.__setattr__(bad, "use", Use("package", "tli", {"lenience": 0.5}, "static", 5))
    with pytest.raises(PackageError, match="relaxes acceptance"):
        write_recommendation(path, made(choices=(bad,)))
    object.__setattr__(bad, "speedup", Speedup(float("nan"), 1, 1))
    with pytest.raises(ValueError, match="JSON compliant"):
        write_recommendation(path, made(choices=(bad,)))
    assert path.read_bytes() == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["package", NAME]
