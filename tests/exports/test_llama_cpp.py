"""llama.cpp: its converter opens a padded drafter, and drafting with it changes nothing of the target's greedy text."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from drafters.export.older_readers import for_older_readers
from tests.data import DATA
from tests.exports.releases import HERE, READERS, ROOM, SHARED, installed, llama_cpp, unpacked

TEXTS = ("Once upon a time, there was a little girl", "def fibonacci(n):", "The")
WORDS = 48
# A block of drafts goes through other kernels than one token, some in half precision, whose error of a logit of 20 is 0.01. Where the
# two best words are nearer than that, rounding chooses: text is compared up to there.
TIE = 0.01
EXACT = ("-fa", "off", "-ctk", "f32", "-ctv", "f32")


def converted(folder: Path, out: Path) -> Path:
    """A GGUF by llama.cpp's own converter, with the transformers that it pins."""
    source, reader = llama_cpp(), READERS["transformers-4"]
    path = [HERE / "readers", unpacked(reader.name), source / "gguf-py", installed(reader.packages), installed(SHARED)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "STUBS": "", "HF_HUB_OFFLINE": "1"}
    command = [
        sys.executable,
        str(source / "convert_hf_to_gguf.py"),
        str(folder),
        "--outfile",
        str(out),
        "--outtype",
        "auto",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def said(program: str, text: str, *arguments: object) -> tuple[str, str]:
    """What a program of llama.cpp writes after the prompt with one thread at T = 0, and its notes."""
    settings = ("-p", text, "-n", str(WORDS), "--temp", "0", "--top-k", "1", "-c", "256", "-t", "1", *EXACT)
    command = [str(llama_cpp() / "build" / "bin" / program), *map(str, arguments), *settings]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, errors="replace"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split(text, 1)[1].strip(), done.stdout + done.stderr


def decided(folder: Path, text: str) -> str:
    """The target's greedy continuation by transformers in fp32, up to its first tie."""
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        AutoTokenizer.from_pretrained(folder),
    )
    inputs = tokenizer(text, return_tensors="pt")
    options = {"max_new_tokens": WORDS - 2, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    found = model.generate(**inputs, **options)
    best = torch.stack(found.logits).squeeze(1).topk(2).values  # (n, 2)
    ties = (best[:, 0] - best[:, 1] < TIE).nonzero().flatten().tolist()
    length = inputs.input_ids.shape[1]
    return tokenizer.decode(
        found.sequences[0, length : length + min(ties, default=len(best))], skip_special_tokens=True
    ).strip()


def models() -> list[tuple[Path, int]]:
    """Folders of Llamas whose tokenizers the converter knows, and how many of their layers draft."""
    return [
        (DATA / "models" / "stories260K", 4),
        (Path(os.environ.get("DRAFTERS_SMOLLM2", ROOM / "smollm2" / "target")), 12),
    ]


@pytest.mark.parametrize(("source", "layers"), models(), ids=["stories260K", "SmolLM2-135M-Instruct"])
def test_drafting_leaves_greedy_text_as_it_is(padded_pair, source, layers, tmp_path):
    if not source.is_dir():
        pytest.skip(
            f"no {source.parent.name}/{source.name} here: DRAFTERS_SMOLLM2 names a folder of SmolLM2-135M-Instruct"
        )
    pair = padded_pair(source, layers)
    for_older_readers(pair.target)  # else transformers 5's own folder is refused
    target, drafter = (converted(folder, tmp_path / f"{name}.gguf") for name, folder in vars(pair).items())
    drafted = accepted = compared = 0
    for text in TEXTS:
        plain, _ = said("llama-completion", text, "-m", target, "-no-cnv")
        drafting = ("-m", target, "-md", drafter, "--spec-type", "draft-simple", "--spec-draft-n-max", "5")
        with_drafter, notes = said("llama-speculative-simple", text, *drafting)
        counts = {name: int(value) for name, value in re.findall(r"(n_drafted|n_accept)\s*= (\d+)", notes)}
        drafted, accepted = drafted + counts.get("n_drafted", 0), accepted + counts.get("n_accept", 0)
        expected = decided(pair.target, text)
        for words in (plain, with_drafter):
            # What it writes last can be lost: a thread writes, and the program does not wait for it at its end.
            same = min(len(words), len(expected))
            assert words[:same] == expected[:same], "the text is not the target's own"
        compared += same
    assert drafted > 0
    assert compared > 40 * len(TEXTS)
    print(
        f"{source.name} of {source.parent.name}: {accepted} of {drafted} drafted tokens accepted, {compared} characters compared"
    )
