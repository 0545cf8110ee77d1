"""What a package or a model folder holds, check by check, and why it is or is not accepted.

The same functions as `drafters.load` uses, in the same order, but each one's findings are told instead of only its
failure, and nothing is built: no weights are put into a model, no tokenizer is opened, no code runs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from drafters.io.borrowed_json import borrows, read_borrowed
from drafters.io.hub import Source
from drafters.io.json_rules import DESCRIPTION, check_description
from drafters.io.manifest import NAME
from drafters.io.model_json import check_patterns
from drafters.io.safe_load import MAX_MANIFEST_BYTES, MAX_TOKENIZER_BYTES, list_files, read_json
from drafters.io.secrets import scan
from drafters.models.architecture import open_config
from drafters.models.model_folder import check_model_folder, folder_notes
from drafters.package.integrity import verify
from drafters.package.reader import check_weights, checked_config, checked_vocabulary, read_slots
from drafters.package.recommendation import advice
from drafters.package.recommendation.recommended_json import find_recommendation, read_recommendation
from drafters.package_error import PackageError

FIX = "Give a package or model folder."


@dataclass(frozen=True)
class Line:
    """One check: what it is called, whether it passed (None: not reached, or not used), and what it found."""

    check: str
    passed: bool | None
    found: str


@dataclass
class _Findings:
    source: Source
    values: dict[str, Any] = field(default_factory=dict)


def inspect_folder(source: Source) -> list[Line]:
    """Every check of a folder that `load` (a package) or the pipeline (a model) would make, one line each."""
    steps = PACKAGE if _claims_to_be_a_package(source) else MODEL
    findings, lines, stopped = _Findings(source), [], False
    for name, step in steps:
        if stopped:
            lines.append(Line(name, None, "not looked at"))
            continue
        try:
            lines.append(Line(name, True, step(findings)))
        except PackageError as error:
            lines.append(Line(name, False, str(error)))
            stopped = True
    advised = None if stopped or steps is MODEL else _recommendation(findings)
    return lines if advised is None else [*lines, advised]


def _recommendation(findings: _Findings) -> Line | None:
    """What lies in or beside a package as its recommendation. It is advice: a broken one is not used, the package is."""
    source = findings.source
    if find_recommendation(source.folder) is None:
        return None
    try:
        found = read_recommendation(source.folder)
    except PackageError as error:
        return Line("recommendation", None, f"not used: {error}")
    return Line("recommendation", True, "\n    ".join(advice.summary(found)))


def _claims_to_be_a_package(source: Source) -> bool:
    """Exports have a manifest, too, but of another kind; one that cannot be read is looked at as a package's."""
    if (source.folder / DESCRIPTION).exists():
        return True
    try:
        return read_json(source.folder, NAME, MAX_MANIFEST_BYTES, source.root).get("kind") == "package"
    except PackageError:
        return (source.folder / NAME).exists()


def _files(findings: _Findings) -> str:
    source = findings.source
    names = list_files(source.folder, source.root)
    size = sum((source.folder / name).stat().st_size for name in names)
    listed = "".join(f"\n    {(source.folder / name).stat().st_size:>14,}  {name}" for name in names)
    return f"{len(names)} regular files inside the folder, {size / 1e6:,.1f} MB{listed}"


def _seal(findings: _Findings) -> str:
    manifest = findings.values["manifest"] = verify(findings.source)
    versions = manifest.versions
    made = f"drafters {versions.get('drafters', '?')}, torch {versions.get('torch', '?')}"
    return f"package {manifest.key}, format {manifest.format_version}; sizes and SHA-256 of all files agree; made by {made}"


def _description(findings: _Findings) -> str:
    source = findings.source
    found = findings.values["description"] = read_json(source.folder, DESCRIPTION, root=source.root)
    check_description(found)
    target, drafter, coverage = found["target"], found["drafter"], found["coverage"]
    covered = "coverage not stated" if coverage is None else f"{coverage:.1%} of the counted text"
    return (
        f"{found['name']}: {drafter['kept']:,} of {drafter['vocabulary']:,} tokens of {drafter['id']} "
        f"({covered}), licence {drafter['licence'] or 'not stated'}, for {target['id']}; "
        f"sampler {found['recommended']['sampler']}, stop {found['recommended']['stop']}"
    )


def _weights_header(findings: _Findings) -> str:
    packaged = "description" in findings.values
    header = findings.values["header"] = check_model_folder(findings.source, packaged, borrowing=True)
    kinds = ", ".join(sorted({info.dtype for info in header.values()}))
    numbers = sum(info.numel for info in header.values())
    said = f"{len(header)} tensors ({kinds}), {numbers / 1e6:,.2f} M numbers; no key that reaches for code"
    if borrows(findings.source):
        said += f"\n    borrowed: {read_borrowed(findings.source)}; compared when it is loaded with that target"
    return said


def _package_config(findings: _Findings) -> str:
    config = findings.values["config"] = checked_config(findings.source, findings.values["description"])
    return f"{config.model_type}, only keys that transformers' own class has"


def _model_config(findings: _Findings) -> str:
    config = open_config(findings.source, FIX)
    notes = folder_notes(findings.source, config)
    left = f"; notes left out: {', '.join(notes)}" if notes else ""
    return f"{config.model_type}, {config.get_text_config().vocab_size:,} tokens{left}"


def _vocabulary(findings: _Findings) -> str:
    found = findings.values["vocabulary"] = checked_vocabulary(findings.source, findings.values["description"])
    reached = int((found.map.to_drafter >= 0).sum())
    return (
        f"{len(found.kept):,} ascending ids in range, {reached:,} of {len(found.map.to_drafter):,} target ids reached"
    )


def _weights(findings: _Findings) -> str:
    values = findings.values
    check_weights(findings.source, values["config"], values["header"], values["vocabulary"].kept)
    return "as many numbers as the config asks for, all finite"


def _parts(findings: _Findings) -> str:
    values = findings.values
    kept = values["vocabulary"].kept
    slots = read_slots(findings.source, values["manifest"], values["description"], kept, values["config"])
    return ", ".join(f"{name}: {'none' if part is None else 'valid'}" for name, part in slots.items())


def _tokenizer(findings: _Findings) -> str:
    source = findings.source
    if not (source.folder / "tokenizer.json").exists():
        return "the target's" if borrows(source) and read_borrowed(source).files else "no tokenizer.json"
    data = read_json(source.folder, "tokenizer.json", MAX_TOKENIZER_BYTES, source.root)
    check_patterns(data)
    model = data.get("model")
    kind = model.get("type", "BPE") if isinstance(model, dict) else "?"
    return f"{kind}, patterns that cannot backtrack without end; not opened"


def _secrets(findings: _Findings) -> str:
    found = [f"{name}:{line}" for name, line, _ in scan(findings.source.folder)]
    if found:
        fix = "Revoke it if it is real, and build the folder again without it."
        raise PackageError(found[0].rpartition(":")[0], "secret", "no keys or passwords", f"{len(found)} of them", fix)
    return "no keys or passwords"


Step = tuple[str, Callable[[_Findings], str]]
PACKAGE: tuple[Step, ...] = (
    ("files", _files),
    ("seal", _seal),
    ("description", _description),
    ("weights header", _weights_header),
    ("config", _package_config),
    ("vocabulary", _vocabulary),
    ("weights", _weights),
    ("other parts", _parts),
    ("tokenizer", _tokenizer),
    ("secrets", _secrets),
)
MODEL: tuple[Step, ...] = (
    ("files", _files),
    ("weights header", _weights_header),
    ("config", _model_config),
    ("tokenizer", _tokenizer),
    ("secrets", _secrets),
)
