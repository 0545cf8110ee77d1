"""The sentences between the tables of docs/results.md. They hold no figures: those come from the files."""

INTRODUCTION = (
    "Every figure on this page is read from a file in `eval/results/cpu`, on one thread of an x86 processor with the embedded pair "
    "in fp32, one request at a time, unless a row says otherwise. Ratios carry over to other machines better than times do; "
    "`make bench` measures them on yours. No GPU result is committed yet: `eval/gpu_check.sh` makes them."
)
NOTES = {
    "speed": (
        "Ratios of tokens per second, measured in alternating order within one run, with 95 % intervals "
        "(`bench_engine.json`, `bench_engine_uncompiled.json`)."
    ),
    "compiled": (
        "Compiled means `eval.compile=true`, or `compile=True` of `drafters.generate`. The target's sixteen thin layers gain more from "
        "it than the drafter's one, so drafting adds little to a target this small once it is compiled. With a constant draft length a "
        "whole chain is one piece of compiled code, which takes less time than its forwards one by one; that is how a share of the "
        "ideal above 100 % comes about. Figures move with the machine's pace from hour to hour; the intervals are within one run."
    ),
    "real": (
        "SmolLM2-135M-Instruct (30 layers of width 576, a vocabulary of 49,152) with a drafter cut from it, on one thread of an x86 "
        "processor, one request at a time, not compiled: `eval/real_check.sh`, files in `eval/results/cpu/smollm2`. Each "
        "form of the drafter drafts as many tokens a round as are predicted to be fastest for it; transformers' assisted generation "
        "runs in the same turns with the same unpruned drafter and as many drafts as ours. Acceptance is expected, on the target's "
        "own text; speed is by the clock, with 95 % intervals over prompts."
    ),
    "parts": "Compiled, unless a row says otherwise. The files are `bench_*.json`.",
    "vocabulary": (
        'The embedded pair at T = 1 (`curve_pycode.csv`), made by `make sweep ARGS="sweep.steps=200 sweep.heal_steps=100"`: expected '
        "acceptance of a draft on text that nothing was fitted to. *head*: weights read per draft, of the whole head's. The "
        "training-free tail is the one with the highest predicted speed. At T = 0.7 with top-p 0.9 no prior was better than TLI there."
    ),
    "stop": (
        "Speed relative to the best constant draft length, in tokens per unit of measured time, the decisions' own time included, with "
        "95 % intervals over requests (`train_disco.json`). School arithmetic (gsm8k) was never trained on."
    ),
    "gap": (
        "On held-out traces: *speed* is tokens per plain target forward's time by measured prices; the oracle knows which drafts will be "
        "accepted; `laws known` is the cost-aware rule with the true probabilities in place of the classifier's. The last column is the "
        "clock's median over plain decoding on prompts of Python completion. Prices differ from hour to hour, and the gains with them."
    ),
    "lossless": (
        "The certificate of the code as it was released (`certificate.json`): [what is proved, and how](concepts/lossless.md)."
    ),
}
