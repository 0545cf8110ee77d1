"""Ends of sequence and the chat template's tokens survive pruning."""

import pytest
from tokenizers import AddedToken, Tokenizer, models
from transformers import PreTrainedTokenizerFast

from drafters.vocab.protected import protected_tokens, template_tokens, usual_template

WORDS = ["a", "b", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<tool>", "<spare>", "  "]


def tokenizer(template: str | None = None) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="a"))
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    made.add_special_tokens({"additional_special_tokens": [*WORDS[4:8], "<spare>"]})
    made.add_tokens([AddedToken("<tool>", special=False), AddedToken("  ", special=False)])
    made.chat_template = template
    return made


def tokens(ids) -> list[str]:
    return [WORDS[i] for i in sorted(ids)]


def test_every_end_of_sequence_of_every_config_is_protected():
    assert protected_tokens(tokenizer(), [[3, 7], None, 1]).tolist() == [1, 3, 7]
    assert protected_tokens(tokenizer()).tolist() == [3]


def test_a_collection_of_templates_without_a_usual_one_is_read_in_its_source_alone():
    made = tokenizer()
    made.chat_template = {"tool_use": "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}"}
    assert usual_template(made) is None
    assert tokens(template_tokens(made)) == ["<|user|>"]
    made.chat_template = {**made.chat_template, "default": "{% for m in messages %}<|{{ m.role }}|>{% endfor %}"}
    assert {"<|user|>", "<|assistant|>"} <= set(tokens(template_tokens(made)))


def test_without_a_template_no_special_is_protected():
    assert template_tokens(tokenizer()) == set()


def test_roles_that_only_the_rendering_shows_are_found():
    turn = "{{ '<|' + m['role'] + '|>' + m['content'] + '<|' + 'end|>' }}"
    template = "{{ bos_token }}{% for m in messages %}" + turn + "{% endfor %}"
    found = tokens(template_tokens(tokenizer(template)))
    assert found == ["<s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]


def test_tool_markers_that_only_the_source_shows_are_found_and_spaces_are_not():
    template = "{% if tools %}  <tool>{% endif %}{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
    assert tokens(template_tokens(tokenizer(template))) == ["</s>", "<tool>"]


def test_a_template_that_refuses_a_system_turn_is_still_read():
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% endfor %}"
    )
    assert tokens(template_tokens(tokenizer(template))) == ["<|user|>", "<|assistant|>"]


def test_tokens_named_by_the_user_are_protected_or_refused_with_the_nearest_name():
    assert protected_tokens(tokenizer(), extra=["b"]).tolist() == [1, 3]
    with pytest.raises(ValueError, match=r"'<\|ends\|>'.*nearest: \['<\|end\|>'"):
        protected_tokens(tokenizer(), extra=["<|ends|>"])
