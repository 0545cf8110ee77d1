"""Every suite loads, in the papers' formats; what is missing is named."""

import json
from pathlib import Path

import pytest
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from eval.suites.dataset_rows import DataError
from eval.suites.suite import EMBEDDED, SuiteConfig, encode, load, named, suite_config
from tests.data import shared_path

ROOT = Path(__file__).resolve().parents[3]
SUITES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "conf" / "suite").glob("*.yaml"))}
ROWS = {  # as the data sets have them
    "humaneval": {"task_id": "HumanEval/0", "prompt": "def f(x):\n"},
    "humaneval_infilling": {"task_id": "S/0", "prompt": "def f(x):\n", "suffix": "    return y\n"},
    "mbpp": {"task_id": 11, "text": "Reverse a {list}.", "test_list": ["assert r([1]) == [1]", "assert 0"]},
    "gsm8k": {"question": "How many?", "answer": "#### 3"},
    "mt_bench": {"question_id": 81, "category": "writing", "turns": ["First.", "Second."]},
    "spec_bench": {"question_id": 1, "category": "qa", "turns": ["First."]},
    "cnn_dm": {"id": "a1", "article": "News.", "highlights": "N."},
    "alpaca": {"instruction": "Say it.", "input": "this", "output": "it"},
    "scrolls_qasper": {"id": "q", "pid": "q_1", "input": "What?\n\nPaper.", "output": "It."},
}
TEXTS = {
    "humaneval": "def f(x):\n",
    "humaneval_infilling": "<fim_prefix>def f(x):\n<fim_suffix>    return y\n<fim_middle>",
    "mbpp": '"""\nReverse a {list}.\nassert r([1]) == [1]\n"""\n',
    "gsm8k": "Question: How many?\nAnswer:",
    "mt_bench": "USER: First.\nASSISTANT:",
    "spec_bench": "USER: First.\nASSISTANT:",
    "cnn_dm": "Summarize:\nNews.\nSummary:",
    "alpaca": "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nSay it.\n\n### Input:\nthis\n\n### Response:\n",
    "scrolls_qasper": "What?\n\nPaper.\nAnswer:",
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One id per byte, BOS in front."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<s>", "</s>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>"])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("name", ROWS)
def test_formats(name, tokenizer, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROWS[name]) + "\n\n")
    [prompt] = load(SUITES[name] | {"path": str(file)}, tokenizer)
    assert prompt.text == TEXTS[name]
    assert prompt.suite == name
    assert (prompt.messages is None) == (name in ("humaneval", "humaneval_infilling", "mbpp"))


def test_every_suite_is_tested():
    assert set(SUITES) == {"pycode", "chat", "languages", "local", *ROWS}


def test_alpaca_without_input(tmp_path):
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([ROWS["alpaca"] | {"input": ""}]))
    [prompt] = load(SUITES["alpaca"] | {"path": str(file)})
    assert "### Input" not in prompt.text
    assert prompt.text.endswith("### Instruction:\nSay it.\n\n### Response:\n")


def test_pycode_is_embedded_and_parses():
    prompts = load(SUITES["pycode"])
    assert len(prompts) == 80
    assert len({prompt.id for prompt in prompts}) == 80
    for prompt in prompts:
        indent = " " * (4 if not prompt.text.startswith("class ") else 8)
        compile(f"{prompt.text}{indent}pass\n", prompt.id, "exec")


def test_chat_is_embedded_and_any_beginning_of_it_holds_all_kinds():
    prompts = load(SUITES["chat"])
    assert len(prompts) == len({prompt.id for prompt in prompts}) == len({prompt.text for prompt in prompts}) == 56
    assert {prompt.id.split("/")[0] for prompt in prompts[:4]} == {"math", "code", "chat", "prose"}
    assert all(prompt.messages == ({"role": "user", "content": prompt.text.strip()},) for prompt in prompts)


def test_languages_are_embedded_and_none_is_english():
    prompts = load(named("languages"))
    languages = {prompt.id.partition("-")[0] for prompt in prompts}
    assert len(prompts) == len({prompt.text for prompt in prompts}) == 24
    assert len(languages) == 13
    assert "en" not in languages
    assert all(prompt.messages == ({"role": "user", "content": prompt.text},) for prompt in prompts)


def test_a_suite_that_does_not_exist_is_answered_with_the_nearest():
    with pytest.raises(DataError, match=r"gsm9k: no such suite; did you mean gsm8k\?"):
        named("gsm9k")
    assert named("gsm8k", "rows.jsonl").file == "rows.jsonl"


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("humaneval", "HumanEval.jsonl.gz", 164),
        ("gsm8k", "gsm8k_test.jsonl", 1319),
        ("mt_bench", "mt_bench_question.jsonl", 80),
    ],
)
def test_published_files(name, file, count, tokenizer):
    prompts = load(SUITES[name] | {"path": str(shared_path(f"prompts/{file}"))}, tokenizer)
    assert len(prompts) == count
    assert len({prompt.id for prompt in prompts}) == count
    ids = encode(prompts[0], tokenizer)
    assert tokenizer.decode(ids[1:]) == prompts[0].text


def test_limit_draws_by_seed_in_order():
    whole = load(SUITES["pycode"])
    some = load(SUITES["pycode"], limit=10, seed=1)
    assert some == load(SUITES["pycode"], limit=10, seed=1)
    assert some != load(SUITES["pycode"], limit=10, seed=2)
    assert [prompt for prompt in whole if prompt in some] == some
    assert load(SUITES["pycode"], limit=1000) == whole


def test_chat_template_is_used_where_there_is_one(tokenizer, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROWS["gsm8k"]))
    [prompt] = load(SUITES["gsm8k"] | {"path": str(file)}, tokenizer)
    assert tokenizer.decode(encode(prompt, tokenizer)) == "<s>Question: How many?\nAnswer:"
    tokenizer.chat_template = (
        "<s>{% for m in messages %}[{{ m.content }}]{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    )
    try:
        assert tokenizer.decode(encode(prompt, tokenizer)) == "<s>[How many?]>"
    finally:
        tokenizer.chat_template = None


def test_long_prompts_keep_their_opening_and_their_end(tokenizer):
    [prompt, *_] = load(SUITES["pycode"])
    whole, cut = encode(prompt, tokenizer), encode(prompt, tokenizer, max_length=10)
    assert cut.tolist() == [256, *whole[-9:].tolist()]
    assert encode(prompt, tokenizer, max_length=1).tolist() == whole[-1:].tolist()
    assert encode(prompt, tokenizer, max_length=len(whole)).tolist() == whole.tolist()


def test_an_end_token_is_not_put_behind_a_prompt(tokenizer):
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 256), ("</s>", 257)]
    )
    ending = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    [prompt, *_] = load(SUITES["pycode"])
    assert encode(prompt, ending).tolist() == encode(prompt, tokenizer).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "nowhere.jsonl"}, r"suite\.path=nowhere\.jsonl: no such file"),
        ({"path": "rows.xml"}, r"expected a file ending in"),
        ({"path": "broken.jsonl"}, r"line 2 is no JSON"),
        ({"path": "empty.jsonl"}, r"holds no rows"),
        ({"path": "rows.jsonl", "template": "{nothing}"}, r"does not fit the rows.*they have: prompt, task_id"),
        ({"path": "rows.jsonl", "id": ["uid"]}, r"suite\.id=uid: no such column; the rows have: prompt, task_id"),
        ({"path": "rows.jsonl", "infilling": True}, r"none of the known marks"),
        ({"templat": "x"}, r"suite\.templat: no such setting; did you mean suite\.template\?"),
        ({"revision": "main"}, r"suite\.revision=main: expected a commit of 40 hex digits.*suite\.path=FILE"),
        ({"hub": None}, r"is not on the Hub: give its file .* with suite\.path=FILE"),
    ],
)  # fmt: skip
def test_errors_name_the_setting(change, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(json.dumps(ROWS["humaneval"]))
    Path("rows.xml").write_text("<a/>")
    Path("broken.jsonl").write_text('{"prompt": "x", "task_id": 1}\n{"prompt"\n')
    Path("empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match=message):
        load(SUITES["humaneval"] | {"source": "its page"} | change)


def test_hub_that_cannot_be_reached_names_the_local_way(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", refuse)
    with pytest.raises(DataError, match=r"did not give the data set \(ConnectionError: no route.*suite\.path=FILE"):
        load(SUITES["gsm8k"] | {"revision": "0" * 40})


def test_settings_have_the_fields_of_the_dataclass():
    assert suite_config(SUITES["mt_bench"]) == SuiteConfig(**SUITES["mt_bench"])
    with pytest.raises(DataError, match="no suite"):
        suite_config({})


def test_only_prompts_that_came_with_this_code_are_embedded(tmp_path, monkeypatch):
    own = tmp_path / "pycode.jsonl"
    own.write_text('{"text": "private"}')
    monkeypatch.chdir(tmp_path)
    assert SuiteConfig("pycode", path="pycode.jsonl").embedded  # and it is the embedded file that is read
    for path in (
        str(own),
        "./pycode.jsonl",
        "other.jsonl",
        f"../{tmp_path.name}/pycode.jsonl",
        str(EMBEDDED / "pycode.jsonl"),
    ):
        assert not SuiteConfig("local", path=path).embedded, path
    assert not SuiteConfig("alpaca", hub="org/name").embedded
