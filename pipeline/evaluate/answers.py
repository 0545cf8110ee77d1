"""Which answers the report shows token by token: of prompts that came with this code, and of others where that is asked for."""

from __future__ import annotations

from eval.report.texts.answer import MOST_ANSWERS, MOST_ASKED, MOST_TOKENS, Answers
from eval.report.texts.recorded import Recorder
from eval.report.texts.spelled import TokenNames
from eval.run.configurations import applicable, reference
from eval.run.records import PACKAGE, TAILED, UNPRUNED
from eval.suites.suite import SuiteConfig
from pipeline.errors import ConfigError
from pipeline.evaluate.settings import EvalConfig
from pipeline.evaluate.setup import Bench
from pipeline.runner.stage import Workspace

OWN = 2  # prompts of a suite that came with this code


def wanted(settings: EvalConfig, suite: SuiteConfig) -> int:
    """How many prompts. Raises ConfigError for fewer than none, or more answers than a report holds."""
    most = MOST_ANSWERS // max(1, len(settings.temperatures))
    if settings.texts is None:
        return min(OWN, most) if suite.embedded else 0
    if not 0 <= settings.texts <= most:
        raise ConfigError(
            f"eval.texts={settings.texts}: expected 0 to {most} prompts: a report holds at most {MOST_ANSWERS} answers, one a "
            "temperature"
        )
    return settings.texts


def answers(work: Workspace, bench: Bench) -> Answers | None:
    """The packaged drafter's answers to the first prompts; None where none are wanted or it drafts no tokens."""
    settings = bench.asked.settings
    chosen = bench.tasks[: wanted(settings, bench.asked.suite)]
    laws = {item.name: (item, reference(item)) for item in bench.drafters if item.name in (UNPRUNED, PACKAGE, TAILED)}
    samplers = [(item, sampler) for item, preset in laws.values() if (sampler := applicable(preset, item)) is not None]
    if not chosen or PACKAGE not in {item.name for item, _ in samplers}:
        return None
    names = TokenNames.of(bench.models.target_tokenizer, bench.models.vocabulary)
    recorder, made = Recorder(samplers, names, bench.asked.seed), []
    stop = next(iter(bench.stops[settings.temperatures[0]]))
    with work.progress("Recording answers", len(chosen) * len(settings.temperatures)) as bar:
        for task in chosen:
            asked = bench.models.target_tokenizer.decode(task.ids)[-MOST_ASKED:]
            for heat in settings.temperatures:
                limits = bench.warps.limits(heat, min(settings.max_new_tokens, MOST_TOKENS))
                made.append(recorder.answer(task, asked, bench.stops[heat][stop], limits))
                bar.advance()
    own = bench.asked.suite.embedded
    return Answers(own=own, sampler=laws[PACKAGE][1].label, stop=stop, answers=tuple(made))
