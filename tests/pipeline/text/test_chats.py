"""Chats of every public shape: what the target says is what counts, in its own template; broken rows are left out and told."""

import bz2
import gzip
import json
import lzma

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from eval.suites.dataset_rows import DataError
from eval.suites.row_files import Skipped
from pipeline.text.chat_format import ChatFormat
from pipeline.text.corpus import CorpusConfig, both, is_heldout, look

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MASKED = CHATML.replace(
    "{{ m.role }}\n{{ m.content }}",
    "{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}",
)
NO_END = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
THINKING = CHATML.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}")
TWO_ENDS = CHATML + "{% if not add_generation_prompt %}<|endoftext|>{% endif %}"
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "A metal?"},
    {"role": "assistant", "content": "zinc"},
    {"role": "user", "content": "Another?"},
    {"role": "assistant", "content": "lead"},
]
SHAREGPT = {"system": "Be brief.", "conversations": [
    {"from": {"user": "human", "assistant": "gpt"}[item["role"]], "value": item["content"]} for item in CHAT[1:]
]}  # fmt: skip
SPOKEN = "zinc<|im_end|>lead<|im_end|>"


def chats(template: str | None) -> ChatFormat:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    ends = ("<|im_end|>", "<|endoftext|>")
    backend.add_special_tokens(["<|im_start|>", *ends])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", chat_template=template)
    return ChatFormat(tokenizer, ends, (*ends, "<|im_start|>"))


def read(place, rows, template=CHATML, skipped=None, name="rows.jsonl", **values):
    (place / name).write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    mine = CorpusConfig("mine", "local", path=str(place / name), text=values.pop("text", None), **values)
    return [document for _, document in both(mine, chats=chats(template), skipped=skipped)]


@pytest.mark.parametrize(
    ("template", "spoken"),
    [
        (CHATML, SPOKEN), (MASKED, SPOKEN), (THINKING, SPOKEN), (TWO_ENDS, SPOKEN), (NO_SYSTEM, SPOKEN),
        (NO_END, SPOKEN),  # the end is what the target must say to stop, though the template does not write it
        (None, "zinc\n\nlead"),
    ],
)  # fmt: skip
def test_what_the_target_says_is_found_in_every_kind_of_template(tmp_path, template, spoken):
    [document] = read(tmp_path, [{"messages": CHAT}], template)
    assert document.text == spoken
    assert "A metal?" in document.whole
    assert "A metal?" in document.prompt
    assert "zinc" not in document.prompt
    [every] = read(tmp_path, [{"messages": CHAT}], template, turns="all")
    assert every.text == document.whole


def test_the_prompt_is_what_the_target_is_asked_with(tmp_path):
    [document] = read(tmp_path, [{"messages": CHAT}])
    begin = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nA metal?<|im_end|>\n<|im_start|>assistant\n"
    assert document.prompt == begin
    assert document.whole.startswith(begin + "zinc<|im_end|>\n")
    assert chats(CHATML).without_specials(document.text) == "zinclead"


@pytest.mark.parametrize(
    "row",
    [
        {"messages": CHAT},
        SHAREGPT,
        {"conversations": [{"from": "human", "value": "x"}, *SHAREGPT["conversations"][1:]]},
        {"messages": [CHAT[1] | {"content": [{"type": "image"}, {"type": "text", "text": "A metal?"}]}, *CHAT[2:]]},
        {"messages": [item | {"tool_calls": None, "name": None} for item in CHAT], "prompt": "A metal?"},
        {"chosen": CHAT, "rejected": [*CHAT[:4], {"role": "assistant", "content": "cheese"}]},
        {"prompt": CHAT[:4], "chosen": [{"role": "assistant", "content": "lead"}], "rejected": []},
        {"prompt": "A metal?", "completion": "zinc"},
        {"instruction": "Name", "input": "a metal", "output": "zinc", "text": "all of it"},
        {"question": "A metal?", "answer": "zinc", "id": "q1"},
        {"prompt": "A metal?", "chosen": "zinc", "rejected": "cheese"},
    ],
)
def test_public_shapes_of_rows(tmp_path, row):
    [document] = read(tmp_path, [row])
    answers = {"zinc", "lead"} & set(document.text.split("<|im_end|>"))
    assert answers
    assert document.text == "".join(f"{word}<|im_end|>" for word in ("zinc", "lead") if word in answers)
    assert "cheese" not in document.whole
    assert "None" not in document.whole


def test_tool_calls_become_objects(tmp_path):
    call = {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}, "id": None}
    row = {
        "messages": [
            CHAT[1],
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "2"},
        ]
    }
    template = CHATML.replace(
        "{{ m.content }}", "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.arguments.x }}{% endfor %}"
    )
    [document] = read(tmp_path, [row], template)
    assert document.text == "1<|im_end|>"


def test_a_system_column_without_content_is_no_message(tmp_path):
    row = {"messages": [{"role": "system", "content": None}, *CHAT]}
    [[mine], [plain]] = read(tmp_path, [row], turns="all"), read(tmp_path, [{"messages": CHAT}], turns="all")
    assert mine.text == plain.text


def test_users_do_not_decide_what_is_counted(tmp_path):
    rows = [{"messages": [{"role": "user", "content": "\u03b1\u03b2\u03b3"}, {"role": "assistant", "content": "zinc"}]}]
    assert [item.text for item in read(tmp_path, rows)] == ["zinc<|im_end|>"]
    assert "\u03b1" in read(tmp_path, rows, turns="all")[0].text  # the planted fault: counted with the users' turns


def test_the_split_does_not_depend_on_what_is_counted(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": f"{i}"}, {"role": "assistant", "content": f"a{i}"}]}
        for i in range(90)
    ]
    mine = {turns: read(tmp_path, rows, turns=turns) for turns in ("assistant", "all")}
    held = {turns: [is_heldout(item.reading) for item in found] for turns, found in mine.items()}
    assert held["assistant"] == held["all"]
    assert any(held["all"])


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ('{"text": "x"', "line 2 is no JSON"),
        ("[1, 2]", "line 2: expected an object, got list"),
        ('{"text": null}', "corpus.text=text: no value"),
        ('{"text": 3}', "expected a column of strings"),
        ('{"other": "x"}', "corpus.text=text: no value"),
        ("[" * 100_000, "line 2 is no JSON"),
    ],
)  # fmt: skip
def test_broken_rows_are_left_out_and_counted(tmp_path, broken, why):
    skipped = Skipped()
    rows = [{"text": "one"}, broken, {"text": "two"}]
    assert [item.text for item in read(tmp_path, rows, skipped=skipped, text="text")] == ["one", "two"]
    assert skipped.count == 1
    assert why in skipped.line
    assert skipped.line.startswith("warning: 1 broken rows were left out")


@pytest.mark.parametrize(
    ("chat", "why"),
    [
        ([{"role": "wizard", "content": "x"}], "unknown role 'wizard'"),
        ([{"human": "x", "assistant": "y"}], "a message without role or from; it has: human, assistant"),
        ([{"role": "user", "content": "x"}], "the assistant says nothing"),
        ([{"role": "user"}, {"role": "assistant", "content": "x"}], "a message of user without content"),
    ],
)
def test_broken_chats_say_why_and_nothing_but_broken_rows_is_an_error(tmp_path, chat, why):
    skipped = Skipped()
    assert len(read(tmp_path, [{"messages": CHAT}, {"messages": chat}], skipped=skipped)) == 1
    assert why in skipped.first
    with pytest.raises(DataError, match="all 1 rows are broken, the first: "):
        read(tmp_path, [{"messages": chat}])


def test_a_template_that_refuses_a_chat_leaves_it_out(tmp_path):
    strict = "{% if messages[0].role != 'user' %}{{ raise_exception('a user first') }}{% endif %}" + CHATML
    skipped = Skipped()
    found = read(tmp_path, [{"messages": CHAT}, {"messages": CHAT[2:]}], strict, skipped)
    assert [item.text for item in found] == [SPOKEN]
    assert "the target's chat template refuses it: a user first" in skipped.line


def test_packed_files_and_a_torn_one(tmp_path):
    text = "".join(json.dumps({"text": f"row {i}"}) + "\n" for i in range(300)).encode()
    for suffix, pack in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        (tmp_path / f"a.jsonl{suffix}").write_bytes(pack(text))
        mine = CorpusConfig("mine", "local", path=str(tmp_path / f"a.jsonl{suffix}"), text=None)
        assert len(list(both(mine))) == 300
    skipped = Skipped()
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text)[:-300])
    list(both(CorpusConfig("mine", "local", path=str(tmp_path / "*.jsonl.gz"), text=None), skipped=skipped))
    assert skipped.count >= 1
    assert "b.jsonl.gz" in skipped.first


def test_parquet_shards_of_chats(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    for number in range(2):
        rows = [
            {"messages": [*CHAT[1:], {"role": "assistant", "content": None, "tool_calls": []}][: 2 + 2 * number]}
        ] * 2
        parquet.write_table(pa.Table.from_pylist(rows), tmp_path / f"train-{number:05d}.parquet")
    mine = CorpusConfig("mine", "local", path=str(tmp_path), text=None)
    assert [item.text for _, item in both(mine, chats=chats(CHATML))] == ["zinc<|im_end|>"] * 2 + [SPOKEN] * 2


def test_json_of_lines_of_arrays_and_of_tables(tmp_path):
    for number, text in enumerate(
        (
            '{"text": "x"}\n{"text": "x"}\n',
            '[{"text": "x"}, {"text": "x"}]',
            '{"data": [{"text": "x"}, {"text": "x"}], "v": [1]}',
        )
    ):
        (tmp_path / f"{number}.json").write_text("\ufeff" + text, encoding="utf-8")
    assert [item.text for _, item in both(CorpusConfig("mine", "local", path=str(tmp_path), text=None))] == ["x"] * 6


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"messages": CHAT},
            "1 .jsonl: chats of column messages, the assistant's turns alone, corpus.turns=all for all",
        ),
        ({"id": "7", "story": "once upon a time " * 9}, "1 .jsonl: text of column story"),
        ({"content": "x", "path": "y" * 99}, "1 .jsonl: text of column content"),
        ({"prompt": "x", "completion": "y"}, "chats of columns prompt + completion"),
    ],
)
def test_what_was_found_is_said_before_it_is_read(tmp_path, row, said):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    assert said in look(CorpusConfig("mine", "local", path=str(tmp_path), text=None))


def test_a_file_without_rows_keeps_no_folder_from_being_read(tmp_path):
    corpus = CorpusConfig("mine", "local", path=str(tmp_path), text=None)
    (tmp_path / "a.csv").write_text("id,text\n")
    (tmp_path / "notes.txt").write_text("words")
    assert look(corpus) == "1 .csv, 1 .txt"
    (tmp_path / "b.jsonl").write_text('{"story": "once upon a time"}')
    assert look(corpus) == "1 .csv, 1 .jsonl, 1 .txt: text of column story"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            '{"a": "few words", "b": "other words"}',
            r"corpus\.text: b or a\?; the rows have: a, b; choose with corpus\.text=COLUMN",
        ),
        ('{"a": 1}', r"no column holds text or chats; the rows have: a; choose with corpus\.text=COLUMN"),
        ("{}", r"the rows have: no columns;"),
        ("{", "no row can be read"),
        ("", r"no row can be read: corpus\.path=.*: empty, or nothing but a header"),
    ],
)
def test_what_cannot_be_read_is_an_error_at_the_first_look(tmp_path, text, why):
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(DataError, match=why):
        look(CorpusConfig("mine", "local", path=str(tmp_path), text=None))
