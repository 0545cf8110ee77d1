"""transformers: a plain checkpoint for ``generate(assistant_model=...)`` in programs that do not have Drafters.

Programs that do have it should pass ``drafters.load(...).model`` instead: same tokenizer path, sampling allowed.

The pruned one gets no row for the tokens that are gone. With such a row its vocabulary is no subset of the target's, and transformers
then samples through a map of rows in an order of its own (`AssistantToTargetTranslator`, generation/candidate_generator.py of
5.24): another law than the target's, without a word. Without the row the same call raises.
"""

from drafters.export.checkpoint import write_full, write_padded
from drafters.export.common import DIR, TARGET, Exported, ExportRequest, Format

MODEL = f"assistant_model=AutoModelForCausalLM.from_pretrained('{DIR}')"
SUBSET = (
    "Greedy only: with do_sample=True transformers 5.23 and 5.24 raise AttributeError (assistant_overlap_token_ids), and releases "
    "that do not are not lossless there."
)
OTHER = (
    "Greedy only: with do_sample=True transformers 5.23 and 5.24 run, but THAT IS NOT LOSSLESS: rows of a foreign drafter are mapped "
    "to the wrong tokens, without a word. Use drafters.generate to sample."
)
LENGTH = "generation_config.json has the draft length: num_assistant_tokens, constant."


def _full(request: ExportRequest) -> Exported:
    return Exported(
        serve=(
            f"target.generate(**inputs, do_sample=False, {MODEL}, tokenizer=AutoTokenizer.from_pretrained('{TARGET}'), "
            f"assistant_tokenizer=AutoTokenizer.from_pretrained('{DIR}'))"
        ),
        limits=(
            OTHER if request.package.foreign else SUBSET,
            "One request at a time.",
            "No affinity prior, no trained stop policy: those run in drafters.generate.",
            LENGTH,
            *request.short_of("transformers drafts on, beyond what it learned"),
        ),
        checked=write_full(request, placeholder=False),
    )


def _padded(request: ExportRequest) -> Exported:
    return Exported(
        serve=f"target.generate(**inputs, {MODEL})",
        limits=(
            "Greedy or sampled. The head is unpruned: the whole vocabulary's cost per drafted token.",
            "One request at a time.",
            LENGTH,
            *request.short_of("transformers drafts on, beyond what it learned"),
            "For llama.cpp: `convert_hf_to_gguf.py DIR --outfile drafter.gguf`, then give it to llama.cpp with -md.",
        ),
        checked=write_padded(request),
    )


FORMAT = Format("transformers", {"full": _full, "padded": _padded}, {})
