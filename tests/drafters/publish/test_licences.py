"""A pruned copy carries its source's licence on, and nothing is published under an unknown one."""

import pytest

from drafters.publish.licences import USE_RESTRICTED, LicenceError, inherit

RAIL = "BigCode OpenRAIL-M\n...\nAttachment A\nUSE RESTRICTIONS\nYou agree not to ..."


@pytest.mark.parametrize("name", ["apache-2.0", "mit", "cc-by-sa-4.0", "cc-by-nc-4.0", "gpl-3.0"])
def test_known_licences_are_carried_on(name):
    assert inherit(name, "text").name == name
    assert inherit(name, "text", declared=name).name == name


@pytest.mark.parametrize(
    ("source", "options", "reason"),
    [
        (None, {}, "not known"),
        (None, {"declared": "mit"}, "not known"),
        ("bigcode-openrail-m", {"declared": "apache-2.0"}, "inherits"),
        ("mit", {"declared": "apache-2.0"}, "inherits"),
        ("cc-by-nd-4.0", {}, "no derivatives"),
        ("my-own", {}, "not one that Drafters knows"),
        ("Apache 2", {}, "not one that Drafters knows"),
        ("other", {}, "licence_name"),
        ("other", {"own_name": "qwen-research"}, "licence_link"),
        ("other", {"own_name": "Qwen Research!", "link": "LICENSE"}, "licence_name"),
        ("other", {"own_name": "x", "link": "javascript:alert(1)"}, "licence_link"),
    ],
)
def test_what_is_refused(source, options, reason):
    with pytest.raises(LicenceError, match=reason):
        inherit(source, RAIL, **options)


@pytest.mark.parametrize("name", sorted(USE_RESTRICTED))
def test_use_restrictions_must_be_in_the_licence_file(name):
    with pytest.raises(LicenceError, match="use restrictions"):
        inherit(name, "All rights reserved.")
    found = inherit(name, RAIL, repository="org/Llama-drafter")
    assert "Use restrictions apply" in found.obligations[0]


def test_an_empty_licence_file_is_none():
    with pytest.raises(LicenceError, match="empty"):
        inherit("mit", "  \n")


def test_llamas_name_rule():
    with pytest.raises(LicenceError, match='begins with "Llama"'):
        inherit("llama3.1", RAIL, repository="org/my-drafter")
    assert "Built with Llama." in inherit("llama3.1", RAIL, repository="org/Llama-3.1-drafter").obligations
    assert inherit("llama2", RAIL, repository="org/my-drafter").name == "llama2"


def test_other_carries_its_name_and_link():
    found = inherit("other", "text", own_name="qwen-research", link="LICENSE")
    assert (found.name, found.own_name, found.link) == ("other", "qwen-research", "LICENSE")
    assert "qwen-research" in found.obligations[0]
