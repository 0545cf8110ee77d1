"""The one list of formats, and the call that writes one of them."""

import json

from drafters.export.common import Exported, ExportError, ExportRequest, Format, filled
from drafters.export.formats import sglang, speculators, transformers, vllm

FORMATS: dict[str, Format] = {
    entry.name: entry for entry in (transformers.FORMAT, vllm.FORMAT, sglang.FORMAT, speculators.FORMAT)
}
NOTE = "export.json"


def choose(name: str | None, form: str | None) -> tuple[Format, str]:
    """The format and the form that two settings mean; the form defaults to the format's first.

    Raises:
        ExportError: no such format or form, or one that its reader cannot load, with the reason.
    """
    if name not in FORMATS:
        raise ExportError(f"to={name}: expected one of {', '.join(FORMATS)}; for example ARGS='to=vllm'")
    found = FORMATS[name]
    form = form or next(iter(found.forms))
    if form in found.refused:
        raise ExportError(f"to={name} form={form} is not possible today: {found.refused[form]}")
    if form not in found.forms:
        raise ExportError(f"to={name} form={form}: expected one of {', '.join(found.forms)}")
    return found, form


def export(request: ExportRequest, name: str, form: str | None = None) -> Exported:
    """Write one format into ``request.out``, open it as its reader does, and note beside it what it is.

    Raises:
        ExportError: see `choose`. SurgeryError, PackageError: the drafter does not allow it. RuntimeError: the load
            check saw something else than was to be written, which is a defect of this program.
    """
    found, form = choose(name, form)
    done = found.forms[form](request)
    description = request.package.description
    note = {
        "to": name,
        "form": form,
        "package": request.package.manifest.key,
        "target": description["target"],
        "drafter": description["drafter"],
        "serve": filled(done.serve, request.lookahead, description["target"]["id"]),
        "serve_template": done.serve,
        "lookahead": request.lookahead,
        "limits": list(done.limits),
        "checked": done.checked,
    }
    text = json.dumps(note, indent=2, sort_keys=True, ensure_ascii=False)
    (request.out / NOTE).write_text(text + "\n", encoding="utf-8")
    for path in request.out.iterdir():
        path.chmod(0o644)  # safetensors writes files that only their owner can read; a server runs as somebody else
    return done
