"""A GGUF file as a model folder: transformers reads it, the weights are unpacked, and the folder is opened again to compare.

The file is handed over alone, by a link in an empty folder: whatever lies beside it (adapters, configs, templates) has no say.
"""

import contextlib
import importlib.util
import io
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from drafters.io.atomic import write_json
from drafters.io.hub import local_source
from drafters.io.manifest import write_manifest
from drafters.io.model_json import check_config_bounds, tidy
from drafters.io.safe_load import read_json
from drafters.models.architecture import CONFIG, native_model, open_config, skeleton, undeclared
from drafters.models.gguf.header import GgufHeader
from drafters.models.model_folder import TOKENIZER_CONFIG, check_model_folder, open_model, open_tokenizer, quiet
from drafters.package_error import PackageError
from drafters.rounding import excess, logits_bound

KIND = "model"  # of the folder's manifest
NEEDED = ("gguf", "accelerate")  # transformers reads GGUF files with them
INSTALL = "pip install 'drafters[gguf]'"
WIDE = ("F64", "F32", "F16")  # types of weights that bf16 would round
VECTORS = "F32"  # how norms and biases are stored, whatever the weights are
ELSEWHERE = (
    "Get this model in another quantisation (Q4_K_M, Q8_0, F16), or as a folder with safetensors from its makers."
)
PROBE = 8  # ids whose logits are compared


def check_installed(name: str) -> None:
    """Raise PackageError, naming the command, unless what transformers reads GGUF files with is installed."""
    if missing := [package for package in NEEDED if importlib.util.find_spec(package) is None]:
        fix = f"{INSTALL}  # in a clone: .venv/bin/pip install -c constraints.txt -e '.[gguf]'"
        raise PackageError(name, "file", f"{' and '.join(NEEDED)} to read a GGUF file", f"no {missing[0]}", fix)


def converters() -> dict[str, str]:
    """Return the versions of what decides the converted folder's content."""
    return {name: metadata.version(name) for name in ("transformers", "tokenizers", "gguf")}


def dtype_of(header: GgufHeader) -> torch.dtype:
    """Return fp32 for weights that bf16 would round, bf16 for quantised ones, of which little is lost."""
    weights = {tensor.type for tensor in header.tensors.values()} - {VECTORS}
    return torch.float32 if weights <= set(WIDE) else torch.bfloat16


def convert(file: Path, header: GgufHeader, key: str, out: Path) -> None:
    """Write the model of a GGUF file to the empty folder ``out``, prove that it opens as the same model, and seal it.

    Args:
        header: what `read_gguf_header` found in the file.
        key: what the folder's content follows from, for its manifest.

    Raises:
        PackageError: a family or type of weights that transformers does not read, or weights that do not fill the model.
    """
    dtype, name = dtype_of(header), file.name
    with TemporaryDirectory() as alone, _no_bars():
        (Path(alone) / "model.gguf").symlink_to(file.resolve())
        given = {"gguf_file": "model.gguf", "local_files_only": True, "trust_remote_code": False}
        try:
            model = _opened(alone, given, header, name).to(dtype)
            tokenizer = AutoTokenizer.from_pretrained(alone, **given)
        except PackageError:
            raise
        except Exception as error:  # each reader raises what it likes
            expected = "a family and types of weights that transformers reads"
            got = f"{header.architecture} in {', '.join(header.types)}: {type(error).__name__}: {error}"
            raise PackageError(name, "general.architecture", expected, got, ELSEWHERE) from error
        model.eval().requires_grad_(False)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    data, _ = tidy(read_json(out, CONFIG), CONFIG, native_model)  # less where transformers found it
    write_json(out / CONFIG, undeclared(model.config, data)[0])
    settings = read_json(out, TOKENIZER_CONFIG)
    write_json(out / TOKENIZER_CONFIG, {key: value for key, value in settings.items() if key not in given})
    _check(model, out, name)
    write_manifest(out, kind=KIND, key=key, config={"gguf": name, "dtype": str(dtype)}, inputs={})


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """`quiet` for bars that transformers cannot be told to leave out: where nobody watches, stderr leads nowhere."""
    with quiet(), contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO()):
        yield


def _opened(folder: str, given: Mapping[str, object], header: GgufHeader, name: str) -> PreTrainedModel:
    """The model in fp32, every weight of it from the file."""
    config = AutoConfig.from_pretrained(folder, **given)
    check_config_bounds(config.to_dict(), name)
    needed = sum(
        weight.numel() for weight in skeleton(config).parameters()
    )  # transformers would make up what is missing
    if needed > header.numel:
        raise PackageError(name, "tensors", f"the {needed:,} weights of its config", f"{header.numel:,}", ELSEWHERE)
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, **_dequantise(), **given
    )
    if missing := sorted(report["missing_keys"]) + sorted(str(entry[0]) for entry in report["mismatched_keys"]):
        got = f"{len(missing)} tensors missing or of another shape"
        raise PackageError(name, missing[0], f"weights of {type(model).__name__}", got, ELSEWHERE)
    return model


def _dequantise() -> Mapping[str, object]:
    try:
        from transformers import GgufConfig  # since then transformers else keeps the blocks, which cannot be saved
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


def _check(model: PreTrainedModel, folder: Path, name: str) -> None:
    """Raise PackageError unless the folder, opened as any other, has the model's weights, finite, and its logits."""
    source = local_source(folder, name)
    check_model_folder(source)
    fix = "Convert it again; if that does not help, take another file of this model."
    loaded = open_model(source, open_config(source, fix), model.dtype, torch.device("cpu"))
    open_tokenizer(source, fix)
    weights, expected = dict(loaded.named_parameters()), dict(model.named_parameters())
    for key in sorted(weights.keys() | expected.keys()):
        if key in expected and not torch.isfinite(expected[key]).all():
            raise PackageError(name, key, "finite numbers", "NaN or infinity", ELSEWHERE)
        if key not in weights or key not in expected or not torch.equal(weights[key], expected[key]):
            raise PackageError(name, key, "the weights that were read", "others after saving", fix)
    ids = torch.arange(min(PROBE, model.config.get_text_config().vocab_size)).unsqueeze(0)  # (1, n)
    with torch.inference_mode():
        logits, before = (each(input_ids=ids).logits for each in (loaded, model))
    if not torch.isfinite(logits).all() or excess(logits, before, logits_bound(model, ids)) > 1:
        raise PackageError(name, "logits", "those of the model that was read", "others, or none that are finite", fix)
