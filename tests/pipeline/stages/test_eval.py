"""The whole pipeline on tiny random models: count -> prune -> package -> eval through the runner."""

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from drafters.samplers import catalog
from drafters.samplers.draft import Sampler, Verdict
from drafters.samplers.proposal.tli import TLI
from drafters.samplers.verify.rejection import Rejection
from eval.report.row import ReportRow
from eval.report.schema import ForwardCosts, Report, required
from eval.run.records import parse
from eval.suites.dataset_rows import DataError
from pipeline.config.hydra_config import load
from pipeline.errors import ConfigError, PipelineError
from pipeline.evaluate import cells, text_expectations, verdict_run
from pipeline.runner.runner import Runner
from pipeline.stages import eval as stage

TOKENS = ["</s>", *"abcdefghijkl"]
FOREIGN = [*"lkjihgfedcba", "</s>"]


def make_model(folder: Path, tokens: list[str], seed: int, layers: int, end: str = "</s>", padding: int = 0) -> Path:
    torch.manual_seed(seed)
    backend = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, []))
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end)
    config = LlamaConfig(
        vocab_size=len(tokens) + padding, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, initializer_range=0.3, bos_token_id=None, eos_token_id=tokens.index(end),
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("eval")
    make_model(root / "target", TOKENS, 0, 2)
    make_model(root / "drafter", TOKENS, 1, 1)
    make_model(root / "foreign", FOREIGN, 2, 1)
    (root / "corpus.jsonl").write_text("".join(json.dumps({"text": "abcabcabd" * 4}) + "\n" for _ in range(40)))
    rows = [{"id": f"task {number}", "prompt": text} for number, text in enumerate(("abcab", "bca", "cabcd"))]
    (root / "suite.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def settings(place: Path, *more: str):
    return load(
        [
            "stage=eval", "pair=local", f"pair.target={place / 'target'}", f"pair.drafter={place / 'drafter'}",
            "corpus=local", f"corpus.path={place / 'corpus.jsonl'}", "count.workers=1", "prune.size=6",
            "affinity.enabled=false", "tail.enabled=false",
            f"suite.path={place / 'suite.jsonl'}", f"runs_dir={place / 'runs'}", "device=cpu", "dtype=fp32",
            "eval.samplers=[exact_match,tli]", "eval.max_new_tokens=6", "eval.repeats=2", "eval.cost_runs=2",
            "eval.temperatures=[0.0,1.0]", "eval.law_rounds=8", "stop.length=2",
            f"+eval.more_drafters.foreign={place / 'foreign'}", *more,
        ]
    )  # fmt: skip


def run(place: Path, *more: str) -> tuple[Path, str]:
    said = io.StringIO()
    return Runner(settings(place, *more), Console(file=said, width=100)).run("eval"), said.getvalue()


@pytest.fixture(scope="module", autouse=True)  # before any test: what it says depends on what is made already
def done(place) -> tuple[Path, str]:
    return run(place)


def test_an_instruct_target_padded_wider_than_its_base_drafter(place, tmp_path):
    """One vocabulary from count to eval: another end, which the drafter has no row for, and a longer head; tail and prior too."""
    make_model(tmp_path / "instruct", [*TOKENS, "<|end|>"], 0, 2, end="<|end|>", padding=2)
    said, console = io.StringIO(), {"width": 100}
    Runner(
        settings(
            place, f"pair.target={tmp_path / 'instruct'}", f"runs_dir={tmp_path / 'runs'}", "affinity.enabled=true",
            "tail.enabled=true", "affinity.tokens=400", "tail.tokens=400", "tail.ranks=[2]", "tail.covers=[1.0]",
            "eval.samplers=[tli,slrs,slem,tail]", "eval.temperatures=[0.0,1.0]",
        ),
        Console(file=said, **console),
    ).run("eval")  # fmt: skip
    text = said.getvalue()
    assert "one vocabulary, although eos is id 13 '<|end|>' of the target, id 0 '</s>' of the drafter" in text
    assert "protected, but unknown to the drafter: <|end|>" in text
    assert "6 of 16 tokens kept" in text
    report = json.loads(next((tmp_path / "runs" / "eval").glob("*/report.json")).read_text())
    assert report["greedy_identity"]["different"] == 0
    drafters = {(row["drafter"], row["sampler"]) for row in report["rows"]}
    assert {("unpruned", "tli"), ("package", "tli"), ("package", "slrs"), ("tail", "tail")} <= drafters


def test_report_and_records(done):
    out, _ = done
    assert sorted(path.name for path in out.iterdir()) == [
        "manifest.json", "recommended.json", "records.jsonl", "report.csv", "report.html", "report.json",
    ]  # fmt: skip
    report = json.loads((out / "report.json").read_text(), parse_constant=pytest.fail)
    assert tuple(report)[: len(required(Report))] == required(Report)
    assert (report["schema"], report["device"], report["dtype"], report["pair"]) == (1, "cpu", "fp32", "local")
    assert (report["vocabulary"], report["kept"], report["coverage"]) == (13, 6, 1.0)
    assert report["texts"] is None  # these prompts are somebody's own
    assert all(report["costs"][name] for name in required(ForwardCosts))
    assert report["models"]["target"]["id"] == "target"
    assert str(out.parents[2]) not in (out / "report.json").read_text()
    found = {(row["drafter"], row["sampler"], row["kept"], row["temperature"]) for row in report["rows"]}
    packaged = {(name, kept) for _, name, kept, _ in found if kept == 6}
    assert {("tli", 6), ("exact_match", 6)} <= packaged
    for temperature in (0.0, 1.0):
        assert {
            (None, None, None, temperature), ("unpruned", "standard", 13, temperature), ("foreign", "tli", 13, temperature),
        } <= found  # fmt: skip
    for row in report["rows"]:
        assert tuple(row)[: len(required(ReportRow))] == required(ReportRow)
        assert row["tokens_per_second"] > 0
        assert (row["prompts"], row["repeats"]) == (3, 2)
        assert row["executor"] == ("speculative" if row["sampler"] else "autoregressive")
    records = [parse(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert len(records) == 2 * 3 * len(report["rows"])
    assert {record.prompt for record in records} == {"task 0", "task 1", "task 2"}
    plain = next(row for row in report["rows"] if row["sampler"] is None)
    assert plain["tokens"] == sum(
        record.tokens
        for record in records
        if record.repeat == 0 and record.configuration.sampler is None and record.configuration.temperature == 0
    )


def test_greedy_outputs_are_the_targets_own(done):
    greedy = json.loads((done[0] / "report.json").read_text())["greedy_identity"]
    assert greedy["status"] == "ok"
    assert greedy["outputs"] == greedy["identical"] + greedy["ties"] > 0


def test_what_is_said_when_made_and_when_reused(place, done):
    out, said = done
    lines = said.splitlines()
    stages = lines[0].removeprefix("to make: ").split(" -> ")
    assert stages[:2] + stages[-2:] == ["count", "prune", "package", "eval"]
    assert any(line.startswith("evaluating ") and line.endswith(" s") for line in lines)
    assert "6 of 13 tokens kept, 100.0 % of the counted text covered" in lines
    assert any("no prior (rows of rdk) and no tail (rows of tail): switched off" in line for line in lines)
    package = Path(next(line for line in lines if line.startswith("package: ")).removeprefix("package: "))
    assert package.is_absolute()
    assert (package / "drafters.json").is_file()
    assert lines[-1] == f"report: {(out / 'report.html').resolve()}"
    again, said_again = run(place)
    assert again == out
    table = lines[next(number for number, line in enumerate(lines) if line.startswith("local on cpu, fp32")) :]
    assert said_again.splitlines()[-len(table) :] == table
    assert "to make" not in said_again
    assert said_again.count("reused") == len(stages)


def test_a_killed_run_goes_on_after_the_last_finished_prompt(place, monkeypatch):
    real, calls = stage.Harness.trial, []

    def counted(self, task, repeat, on_done):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append((repeat, task.number))
        return real(self, task, repeat, on_done)

    more = ("seed=5", "eval.samplers=[tli]", "eval.temperatures=[1.0]")
    monkeypatch.setattr(stage.Harness, "trial", counted)
    with pytest.raises(KeyboardInterrupt):
        run(place, *more)
    calls.clear()
    monkeypatch.setattr(stage.Harness, "trial", lambda self, *a: calls.append((a[1], a[0].number)) or real(self, *a))
    out, said = run(place, *more)
    assert "2 of 6 repeats of prompts were there already" in said.splitlines()
    assert calls == [
        (0, 2),
        (1, 0),
        (1, 1),
        (1, 2),
        *((0, number) for number in range(3)),
    ]  # the last three: the verdict's
    assert len((out / "records.jsonl").read_text().splitlines()) == 6 * 4
    assert not list(out.glob(".part-*"))


def test_a_killed_run_keeps_its_prices_its_expectations_and_what_was_confirmed(place, monkeypatch):
    real, calls, measured = stage.Harness.trial, [], []

    def counted(self, task, repeat, on_done):
        if len(calls) == 3 + 2:
            raise KeyboardInterrupt
        calls.append(task.number)
        return real(self, task, repeat, on_done)

    more = (
        "seed=11",
        "eval.samplers=[tli,rrs,kseq]",
        "eval.temperatures=[1.0]",
        "eval.repeats=1",
        "eval.rows=few",
    )
    monkeypatch.setattr(stage.Harness, "trial", counted)
    with pytest.raises(KeyboardInterrupt):
        run(place, *more)
    calls.clear()
    monkeypatch.setattr(stage, "measure_costs", lambda *a: measured.append("costs"))
    monkeypatch.setattr(text_expectations, "expectations", lambda *a: measured.append("laws"))
    out, _ = run(place, *more)
    assert (calls, measured) == ([2], [])  # of the confirming
    report = json.loads((out / "report.json").read_text())
    trees = [row["sampler"] for row in report["rows"] if row["sampler"] in ("rrs", "kseq")]
    assert len(trees) == 1
    assert not list(out.glob(".part-*"))


def test_the_verdict_and_what_it_rests_on(place, done):
    out, said = done
    run(place)  # reused: of several evaluations of a package the one asked for last counts
    report = json.loads((out / "report.json").read_text())
    assert [choice["temperature"] for choice in report["verdict"]] == [0.0, 1.0]
    for choice in report["verdict"]:
        assert f"T = {choice['temperature']:g}: {choice['reason']}" in said
        assert (choice["use"]["sampler"] is None) == choice["reason"].startswith("plain decoding")
        assert len(choice["next"]) <= 3
    assert any("3 prompts are too few to keep some back" in text for text in report["warnings"])
    package = Path(next(line for line in said.splitlines() if line.startswith("package: ")).removeprefix("package: "))
    assert (out / "recommended.json").read_bytes() == (package.parent / f"{package.name}.recommended.json").read_bytes()
    rows = [row for row in report["rows"] if row["sampler"] is not None]
    assert all(0 <= row["acceptance"] <= 1 and row["tokens_per_forward"] >= 1 for row in rows)
    for heat in (0.0, 1.0):
        assert len({row["text_positions"] for row in rows if row["temperature"] == heat}) == 1  # all on the same text
    first = next(row for row in rows if (row["drafter"], row["temperature"]) == ("unpruned", 1.0))
    assert (first["acceptance_gain"], first["acceptance_gain_low"], first["acceptance_gain_high"]) == (0, 0, 0)


def test_stop_policies_that_are_measured_can_be_recommended(place, monkeypatch):
    monkeypatch.setattr(verdict_run, "CONFIRMED", 20)
    more = (
        "seed=15",
        "eval.samplers=[tli]",
        "eval.temperatures=[1.0]",
        "eval.repeats=1",
        "eval.stops=[static,confidence]",
        "eval.law_rounds=0",
    )
    out, _ = run(place, *more)
    (choice,) = json.loads((out / "report.json").read_text())["verdict"]
    uses = [rated["use"] for rated in (choice, *choice["next"])]
    (own,) = [item for item in uses if item["stop"] == "confidence"]
    assert own == {"form": "package", "sampler": "tli", "options": {}, "stop": "confidence", "length": None}
    assert [item["stop"] for item in uses if item["form"] == "unpruned"] == ["static"]


def test_transformers_runs_beside_our_rows_with_as_many_drafts_as_the_unpruned_one(place):
    asked = "eval.peers=[generate,assisted,assisted_dynamic]"
    more = (
        "seed=16",
        "eval.samplers=[standard,tli]",
        "eval.lengths=best",
        asked,
        "eval.compare=false",
        "eval.law_rounds=0",
    )
    out, said = run(place, *more)
    rows = {
        (row["temperature"], row["drafter"], row["preset"]): row
        for row in json.loads((out / "report.json").read_text())["rows"]
    }
    for heat in (0.0, 1.0):
        ours, plain = rows[heat, "unpruned", "standard"], rows[heat, None, None]
        assert rows[heat, "unpruned", "assisted"]["stop"] == ours["stop"]
        assert ours["stop"].startswith("static ")
        theirs = [rows[heat, "unpruned", "assisted"], rows[heat, "unpruned", "assisted_dynamic"]]
        fastest = max(row["tokens_per_second"] for row in theirs)
        assert ours["speedup_vs_assisted"] == pytest.approx(ours["tokens_per_second"] / fastest)
        assert ours["speedup_vs_assisted_low"] <= ours["speedup_vs_assisted"] <= ours["speedup_vs_assisted_high"]
        for row in (rows[heat, None, "generate"], *theirs):
            assert row["executor"] == "transformers"
            assert (row["sampler"], row["lossless"], row["speedup_vs_assisted"]) == (None, None, None)
            assert row["tokens"] - row["accepted"] <= row["target_forwards"]
            assert row["speedup_vs_autoregressive"] > 0
        assert rows[heat, None, "generate"]["accepted"] == 0
        assert (
            rows[0.0, None, "generate"]["tokens"]
            == rows[0.0, None, None]["tokens"]
            == rows[0.0, "unpruned", "assisted"]["tokens"]
        )
        assert plain["speedup_vs_assisted"] > 0
    assert "as fast as transformers' assisted generation" in " ".join(said.split())


def test_without_positions_there_is_no_verdict(place):
    out, said = run(
        place, "seed=12", "eval.samplers=[slem]", "eval.temperatures=[1.0]", "eval.repeats=1", "eval.positions=0"
    )
    report = json.loads((out / "report.json").read_text())
    assert report["verdict"] == []
    assert all(row["acceptance"] is None for row in report["rows"])
    assert "What to use" not in said
    assert not (out / "recommended.json").exists()
    assert "gives no verdict (eval.positions=0): what an earlier one recommends stays in force" in " ".join(
        said.split()
    )


def test_a_sampler_of_text_alone_is_no_candidate_and_its_acceptance_is_the_measured_one(place):
    out, _ = run(
        place, "seed=13", "eval.samplers=[slem]", "eval.temperatures=[1.0]", "eval.repeats=1", "eval.confirm_prompts=0"
    )
    report = json.loads((out / "report.json").read_text())
    (slem,) = [row for row in report["rows"] if (row["drafter"], row["sampler"]) == ("package", "slem")]
    assert slem["acceptance"] is None
    (choice,) = report["verdict"]
    assert choice["use"]["sampler"] is None  # nothing was confirmed
    assert "nothing was run by the clock" in choice["reason"]
    assert "the unpruned drafter, sampler standard" in choice["reason"]


def test_answers_to_prompts_of_ones_own_are_recorded_where_that_is_asked_for_and_timed_nowhere(place, monkeypatch):
    real, order = stage.answers, []
    monkeypatch.setattr(stage, "answers", lambda *given: order.append("answers") or real(*given))
    trial = stage.Harness.trial
    monkeypatch.setattr(stage.Harness, "trial", lambda self, *given: order.append("trial") or trial(self, *given))
    more = ("eval.samplers=[tli]", "eval.temperatures=[0.0,1.0]", "eval.repeats=1", "eval.law_rounds=0")
    out, _ = run(place, "seed=16", "eval.texts=2", *more)
    assert order == 9 * ["trial"] + ["answers"]  # three prompts: for the rows, and for the verdict at each temperature
    found = json.loads((out / "report.json").read_text())["texts"]
    assert (found["own"], found["sampler"], found["stop"]) == (False, "tli", "static")
    assert [(answer["prompt"], answer["temperature"], answer["asked"]) for answer in found["answers"]] == [
        (name, heat, asked) for name, asked in (("task 0", "abcab"), ("task 1", "bca")) for heat in (0.0, 1.0)
    ]
    kept = {token["id"] for answer in found["answers"] for token in answer["tokens"] if token["sayable"]}
    for answer in found["answers"]:
        assert sum(token["origin"] != "accepted" for token in answer["tokens"]) in (
            answer["rounds"],
            answer["rounds"] - 1,
        )
        for token in answer["tokens"]:
            assert token["text"] == TOKENS[token["id"]]
            assert set(token["q"]) == {"unpruned", "package"}
            assert (token["q"]["package"] > 0) == (token["id"] in kept)
    rows = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    greedy = [row for row in rows if (row["prompt"], row["temperature"], row["drafter"]) == ("task 0", 0.0, "package")]
    assert [(row["tokens"], row["target_forwards"]) for row in greedy] == [  # the run that was timed
        (len(found["answers"][0]["tokens"]), found["answers"][0]["rounds"])
    ]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count('role="img" aria-label="\u201c') == sum(len(answer["tokens"]) for answer in found["answers"])


def test_drafts_that_are_sampled_at_temperature_0_are_not_taken_for_wrong_ones(place):
    more = ("seed=14", "eval.samplers=[tli]", "eval.temperatures=[0.0]", "eval.repeats=1", "eval.draft_temperature=2.0")
    out, _ = run(place, *more)
    assert not [
        text for text in json.loads((out / "report.json").read_text())["warnings"] if "do not trust this row" in text
    ]


def test_a_time_limit_begins_no_further_prompt_but_measures_two(place):
    more = ("seed=7", "eval.samplers=[tli]", "eval.temperatures=[1.0]", "eval.minutes=1e-9")
    out, said = run(place, *more)
    report = json.loads((out / "report.json").read_text())
    assert report["prompts"]["count"] == 2
    assert {row["repeats"] for row in report["rows"]} == {1}
    assert report["rows"][1]["acceptance_rate_low"] is not None
    assert "as many as fit into 1e-09 min" in said


class Careless(Rejection):
    """The planted bug: every token after a rejection or at a round's end is another one."""

    def verify(self, p, draft, coins, key):
        found = super().verify(p, draft, coins, key)
        return Verdict(found.nodes, found.accepted, (found.next_token + 1) % p.shape[-1])


def test_a_sampler_that_is_not_lossless_fails_the_run_and_the_report_says_so(place, monkeypatch):
    monkeypatch.setitem(
        catalog.CATALOG, "tli", catalog.SamplerSpec(lambda context: Sampler("tli", TLI(context.vocab), Careless()))
    )
    more = ("seed=6", "eval.samplers=[tli]", "eval.temperatures=[0.0]", "eval.repeats=1")
    for _ in range(2):  # made, and reused: both must fail
        with pytest.raises(PipelineError, match=r"greedy outputs differ .*tli on task"):
            run(place, *more)
    reports = [json.loads(path.read_text()) for path in (place / "runs" / "eval").glob("*/report.json")]
    (failed,) = [report["greedy_identity"] for report in reports if report["greedy_identity"]["status"] != "ok"]
    assert failed["status"] == "error"
    assert failed["different"] > 0


def test_rows_stand_beside_the_optimum_of_their_draft_law(done):
    report = json.loads((done[0] / "report.json").read_text())
    (tli,) = [
        row for row in report["rows"] if (row["drafter"], row["sampler"], row["temperature"]) == ("package", "tli", 1)
    ]
    assert (tli["preset"], tli["nodes"], tli["drafts_at_root"]) == ("tli", 2, 1)
    assert tli["gap_to_optimum"] == pytest.approx(0.0, abs=1e-9)  # rejection of one draft is optimal
    (own,) = [
        row
        for row in report["rows"]
        if (row["drafter"], row["sampler"], row["temperature"]) == ("package", "exact_match", 1)
    ]
    assert own["gap_to_optimum"] > 0.01
    assert all(row["lossless"] == (row["sampler"] and "not proven") and row["lossy"] is None for row in report["rows"])
    assert {(item["drafter"], item["temperature"]) for item in report["ranks"]} >= {("package", 0.0), ("package", 1.0)}
    assert report["warps"] == {"top_k": 0, "top_p": 1.0, "draft": None}
    assert report["not_applied"] == {}


def test_a_certificate_given_later_to_the_same_code_counts(place, done):
    out, said = done
    assert "unproven" in said
    code = json.loads((out / "report.json").read_text())["code"]
    folder = place / "runs" / "lossless" / "key"
    folder.mkdir(parents=True)
    proved = {"schema": 1, "code": code, "samplers": {"tli": {"status": "exact"}, "exact_match": {"status": "exact"}}}
    (folder / "certificate.json").write_text(json.dumps(proved))
    again, said = run(place)
    (folder / "certificate.json").unlink()
    assert again == out
    assert "unproven: standard: no certificate" in said
    assert [line.split()[-1] for line in said.splitlines() if "package 6" in line] == ["exact"] * 4


def test_one_sampler_with_options_of_its_own_on_drafts_of_their_own_law(place):
    more = ("sampler=traversal", "sampler.branching=[2,1]", "eval.repeats=1", "eval.temperatures=[0.0]", "seed=9")
    out, _ = run(place, *more, "eval.draft_temperature=1.5", "eval.draft_top_k=4")
    report = json.loads((out / "report.json").read_text())
    (row,) = [row for row in report["rows"] if (row["drafter"], row["sampler"]) == ("package", "traversal")]
    assert (row["nodes"], row["drafts_at_root"]) == (4, 2)
    assert row["drafted"] > 2 * row["target_forwards"]  # a greedy drafter would have had one child to offer
    assert report["greedy_identity"]["different"] == 0
    assert report["warps"]["draft"] == {"temperature": 1.5, "top_k": 4, "top_p": 1.0}


def test_a_killed_run_keeps_its_laws(place, monkeypatch):
    more = ("seed=8", "eval.samplers=[tli]", "eval.temperatures=[1.0]", "eval.repeats=1")
    calls: list[str] = []

    def cut(self, contender):
        calls.append(str(contender.configuration.drafter))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, contender)

    real = cells.Laws.optimum
    monkeypatch.setattr(cells.Laws, "optimum", cut)
    with pytest.raises(KeyboardInterrupt):
        run(place, *more)
    run(place, *more)
    assert calls == ["None", "unpruned", "package", "package", "foreign"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("samplers.rrs.branching=[0]", "eval: tree branching"),
        ("+samplers.rrs.lenience=0.5", "eval: sampler 'rrs': lenience=0.5 relaxes acceptance"),
        ("+samplers.rrs.wide=3", "eval: sampler 'rrs' has no option wide"),
        ("eval.draft_temperature=-1", "eval: temperature must be >= 0"),
        ("eval.law_rounds=-1", "eval.law_rounds=-1"),
        ("eval.top_p=0", "eval: top_p must lie in"),
        ("eval.samplers=[standrad]", r"eval.samplers: standrad: no such sampler; did you mean standard\?"),
        ("eval.samplers=[rdk]", r"eval.samplers: rdk needs stage affinity: set affinity.enabled=true"),
        ("suite.path=nowhere.jsonl", r"suite.path=nowhere.jsonl: no such file or folder"),
        ("eval.temperatures=[]", "eval.temperatures"),
        ("eval.temperatures=[1,1]", "different numbers"),
        ("eval.temperatures=[-1]", "temperature must be >= 0"),
        ("eval.prompts=0", "eval.prompts=0: expected a whole number from 1"),
        ("eval.repeats=0", "eval.repeats=0"),
        ("eval.texts=25", r"eval.texts=25: expected 0 to 24 prompts: a report holds at most 48 answers"),
        ("eval.texts=-1", "eval.texts=-1: expected 0"),
        ("eval.minutes=0", "eval.minutes=0.0: expected a number above 0"),
        ("stop.length=-1", "stop.length must be >= 0"),
        ("eval.lengths=longest", "eval.lengths=longest: expected policy, or best"),
        ("eval.peers=[asisted]", r"eval.peers: asisted: no such row; did you mean assisted\?"),
        ("+eval.more_drafters.package=x", "eval.more_drafters.package: that name is taken"),
    ],
)
def test_impossible_settings_are_refused_before_anything_runs(place, change, message):
    with pytest.raises((ConfigError, DataError), match=message):
        stage.check(settings(place, change))


def test_tokens_beyond_the_context_are_refused(place):
    with pytest.raises(ConfigError, match=r"eval.max_new_tokens=64: the target's context holds 64 tokens"):
        run(place, "eval.max_new_tokens=64")


def test_key_covers_prompts_stop_policy_and_machine_but_not_places(place):
    def key(*more: str) -> str:
        return Runner(settings(place, *more)).plan("eval").key

    first = key()
    changed = [key(change) for change in ("stop.length=3", "eval.prompts=2", "seed=1", "threads=7", "dtype=bf16")]
    assert len({first, *changed}) == 6
    assert str(place) not in json.dumps(stage.config(settings(place)))
