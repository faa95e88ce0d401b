"""The report as its reader meets it: what the page says, what the chart draws, and that names in it cannot act."""

import base64
import gzip
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from autocompress.errors import UsageError
from autocompress.report import explain, html, points
from autocompress.report.card import model_card
from autocompress.report.html import WITHOUT_RECORD, write_report
from autocompress.report.recorded import Recorded
from autocompress.report.terminal import print_front
from tests.report.pages import EVIL, LINK, Page, budget, candidate, document, point


def rendered(tmp_path: Path, recorded: Recorded = WITHOUT_RECORD, **changes: Any) -> Page:
    path = tmp_path / "report.html"
    write_report(document(**changes), path, recorded)
    return Page(path.read_text("utf-8"))


def test_recommended_recipe_and_its_numbers_are_in_the_page(tmp_path: Path) -> None:
    said = rendered(tmp_path).text
    assert "fashion Profile cpu-2threads, metric accuracy, asked for: 0.2 ms (p90) Recommended: prune_channels" in said
    row = said[said.index("Pareto front recipe") :]
    row = row[row.index("recommended prune_channels (ratio 0.5)") :]
    assert row.startswith(
        "recommended prune_channels (ratio 0.5) quantize_static (per_channel True) "
        "93.12 % 92.72 % – 93.72 % 93.01 % 0.113 0.125 6.40× int8 static 2.81 MB 696 k 81.0 M"
    )
    assert "The recommended recipe prune_channels (ratio 0.5) quantize_static (per_channel True)" in said


def test_everything_that_did_not_work_is_told_with_its_count_and_cause(tmp_path: Path) -> None:
    said = rendered(tmp_path).text
    assert "2 × over the budget lowrank (rank 5.0): 5 ms lowrank (rank 6.0): 6 ms" in said
    assert "3 × student: out of memory" in said
    assert "prune_heads the model has no attention" in said
    assert "the data differs between two reads" in said


def test_environment_has_what_a_repetition_needs(tmp_path: Path) -> None:
    said = rendered(tmp_path).text
    for fact in ("torch 2.11.0", "cpu Some CPU @ 2.7GHz", "student autocompress 0.1.0", "seed 7", "taken 12 min 34 s"):
        assert fact in said


def test_chart_shows_front_reference_and_budget_on_a_log_axis(tmp_path: Path) -> None:
    page = rendered(tmp_path)
    traces, layout = page.traces(), page.figure["layout"]
    assert traces["Pareto front"]["x"] == [0.125, 0.25]
    assert traces["Pareto front"]["y"] == pytest.approx([93.12, 93.47])
    assert traces["Pareto front"]["error_y"]["array"] == pytest.approx([0.6, 0.6])
    assert traces["Pareto front"]["error_y"]["arrayminus"] == pytest.approx([0.4, 0.4])
    assert traces["Pareto front"]["marker"]["symbol"] == ["circle", "circle-open"]
    assert traces["reference"]["x"] == [0.8]
    assert traces["recommended"]["x"] == [0.125]
    assert traces["over the budget, or its score is lost"]["x"] == [0.3]
    assert "93.12 %" in traces["recommended"]["hovertext"][0]
    assert layout["xaxis"]["type"] == "log"
    assert layout["shapes"][0]["x0"] == 0.2


def test_line_of_a_speedup_budget_is_its_share_of_the_reference(tmp_path: Path) -> None:
    page = rendered(tmp_path, budget=budget(speedup=4.0))
    assert page.figure["layout"]["shapes"][0]["x0"] == pytest.approx(0.2)
    assert "paired medians" in page.text


def test_without_a_budget_there_is_no_line(tmp_path: Path) -> None:
    page = rendered(tmp_path, budget=budget(max_drop=1.0))
    assert "shapes" not in page.figure["layout"]
    assert "lose at most 1 points" in page.text
    assert "over the budget, or" not in page.text


@pytest.mark.parametrize(
    ("sums", "said"),
    [
        ("exact", "hold for processors that sum int8 products exactly"),
        ("cut off at 16 bits", "hold for processors that cut off sums of int8 products at 16 bits"),
    ],
)
def test_it_is_said_for_which_processors_the_scores_of_int8_files_hold(tmp_path: Path, sums: str, said: str) -> None:
    environment = {"instructions": "avx2 avx512_vnni", "int8_sums": sums, "int8_strategies": ["quantize_static"]}
    whole = document()
    for c in whole["candidates"]:
        if c["recipe"] and c["recipe"][-1]["strategy"] == "quantize_static":
            c["recipe"][-1]["variant"] = True
    page = rendered(tmp_path, environment=environment, candidates=whole["candidates"])
    assert said in page.text
    assert "instructions avx2 avx512_vnni" in page.text
    trained = document()["candidates"]
    assert "Scores of int8" not in rendered(tmp_path, environment=environment, candidates=trained).text, "float files"
    behind = [c if c["id"] != "int8" else {**c, "on_front": False} for c in whole["candidates"] if c["id"] != "both"]
    hidden = rendered(tmp_path, environment=environment, candidates=behind, recommended=None, nearest="slow")
    assert "Scores of int8" not in hidden.text, "none is on the front or chosen"
    older = rendered(tmp_path, candidates=whole["candidates"])
    assert "Scores of int8" not in older.text, "a run of an earlier version recorded nothing of it"


ON_DEVICE = {
    "examples": 200,
    "output_difference": 0.004,
    "score_difference": -0.005,
    "error": 0.006,
    "scored_there": False,
    "failed": None,
}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            {},
            "On the device it scores 0.50 points lower on 200 examples, and its outputs differ from those here",
        ),
        (
            {"score_difference": 0.0, "output_difference": 0.0},
            "scores the same on 200 examples, and its outputs are the very",
        ),
        (
            {"scored_there": True, "score_difference": -0.05},
            "On the device it scores 5.00 points lower than here on the same",
        ),
        ({"scored_there": True, "score_difference": None}, "It was scored on the device"),
        ({"failed": "no such operator"}, "On the device it cannot be used: no such operator."),
        (None, "Scores of int8 files are of this machine"),
    ],
)
def test_where_files_are_timed_elsewhere_it_is_said_what_the_score_is_of(
    tmp_path: Path, found: dict[str, Any] | None, said: str
) -> None:
    candidates = document()["candidates"]
    for c in candidates:
        c["on_device"] = None if found is None else {**ON_DEVICE, **found}
        if c["recipe"] and c["recipe"][-1]["strategy"] == "quantize_static":
            c["recipe"][-1]["variant"] = True
    environment = {
        "int8_sums": "exact",
        "int8_strategies": ["quantize_static"],
        "profile": {"device": "http://127.0.0.1:8790"},
    }
    assert said in rendered(tmp_path, environment=environment, candidates=candidates).text


def test_budget_that_binds_nothing_is_said(tmp_path: Path) -> None:
    assert "This budget binds nothing" in rendered(tmp_path, budget=budget(latency_ms=1.0)).text


def test_the_smallest_file_that_keeps_its_score_is_named(tmp_path: Path) -> None:
    candidates = document()["candidates"]
    candidates[1]["compressed_bytes"] = 700_000
    candidates[3]["compressed_bytes"] = 300_000  # loses over a point
    said = "Smallest that keeps its score: quantize_static, 700 kB deflated (the reference: 2,600 kB)"
    assert said in rendered(tmp_path, candidates=candidates).text
    assert "Smallest" not in rendered(tmp_path, candidates=candidates, recommended="int8").text


def test_infeasible_run_shows_the_nearest(tmp_path: Path) -> None:
    candidates = [c | {"feasible": False} for c in document()["candidates"]]
    page = rendered(tmp_path, status="infeasible", recommended=None, nearest="both", candidates=candidates)
    assert "Nothing is known to meet the budget of 0.2 ms" in page.text
    assert "The nearest recipe prune_channels (ratio 0.5)" in page.text
    assert page.traces()["nearest"]["x"] == [0.125]
    assert "recommended" not in page.traces()


def test_what_would_help_is_in_the_page_and_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ["The tightest budget that can be met here: --speedup 3.1 (<b>)."]
    none = {"recommended": None, "nearest": "both", "would_help": said}
    assert said[0] in rendered(tmp_path, **none).text
    assert "tightest" not in rendered(tmp_path).text
    print_front(Console(width=80), document(**none), "runs/x")
    assert said[0] in " ".join(capsys.readouterr().out.split())


def test_reference_alone_is_a_report_too(tmp_path: Path) -> None:
    alone = {"candidates": [], "recommended": None, "rejected": [], "failed": [], "refused": [], "warnings": []}
    page = rendered(tmp_path, **alone, status="infeasible")
    assert "Nothing could be measured." in page.text
    assert list(page.traces()) == ["reference"]
    assert "unchanged reference 93.40 %" in page.text
    assert "Failed" not in page.text
    kept = document()["candidates"][0] | {"feasible": True, "on_front": True}
    page = rendered(tmp_path, **alone | {"candidates": [kept], "recommended": "ref"}, budget=budget(max_drop=1.0))
    assert "The model as it is, without any step." in page.text


def test_other_metric_keeps_its_unit(tmp_path: Path) -> None:
    page = rendered(tmp_path, metric="f1")
    assert "0.9312 0.9272 – 0.9372 0.9301" in page.text
    assert page.traces()["recommended"]["y"] == [0.9312]
    assert page.figure["layout"]["yaxis"]["ticksuffix"] == ""


def test_score_that_was_never_tested_is_a_dash(tmp_path: Path) -> None:
    reference = point(0.934, 0.8) | {"artifact": "reference/model.onnx"}
    candidates = [c | {"score": c["score"] | {"test": None}} for c in document()["candidates"]]
    page = rendered(tmp_path, reference=reference, candidates=candidates)
    assert "93.12 % 92.72 % – 93.72 % - 0.113" in page.text


def test_much_worse_candidate_leaves_the_front_readable_and_is_mentioned(tmp_path: Path) -> None:
    bad = candidate("bad", 0.1, 0.15, ("quantize_static", {}), on_front=False)
    page = rendered(tmp_path, candidates=[*document()["candidates"], bad])
    low, high = page.figure["layout"]["yaxis"]["range"]
    assert 91 < low < 93
    assert 94 < high < 95
    assert "2 far below are out of view" in page.text
    assert 10 in [round(y) for y in page.traces()["others"]["y"]]


@pytest.mark.parametrize("latency", [{"quiet_sessions": 0}, {"reliable": False}], ids=["schema 2", "schema 1"])
def test_a_latency_of_a_busy_machine_is_marked(latency: dict[str, Any], tmp_path: Path) -> None:
    candidates = document()["candidates"]
    del candidates[2]["latency_ms"]["quiet_sessions"]
    candidates[2]["latency_ms"] |= latency
    assert "recommended timed on a busy machine" in rendered(tmp_path, candidates=candidates).text
    assert "busy" not in rendered(tmp_path).text


def test_what_a_busy_machine_makes_of_the_model_is_said_where_it_is_another_speed(tmp_path: Path) -> None:
    candidates = document()["candidates"]
    latency = candidates[2]["latency_ms"]
    latency["ratio_of_all"] = 1.05 * latency["ratio"]
    assert "Beside what else ran" not in rendered(tmp_path, candidates=candidates).text
    latency["ratio_of_all"] = 1.25 * latency["ratio"]
    said = f"Beside what else ran on this machine it was {1 / latency['ratio_of_all']:.2f}x."
    assert said in rendered(tmp_path, candidates=candidates).text


def test_a_verdict_that_is_open_is_told_with_its_reason(tmp_path: Path) -> None:
    candidates = document()["candidates"]
    verdict = {"answer": "undecided", "reason": "between 0.1 ms and 0.3 ms, 0.2 ms is the limit: too close to tell"}
    candidates[2] |= {"feasible": False, "verdicts": {"latency": verdict, "drop": None}}
    said = rendered(tmp_path, candidates=candidates).text
    assert f"Undecided: {verdict['reason']}." in said
    assert "recommended undecided" in said


@pytest.mark.parametrize("text", [EVIL, LINK, "</title></style><!-- <script>", "{{ 7 * 7 }}%{x}", "\ud800"])
def test_names_are_inert_everywhere(tmp_path: Path, text: str) -> None:
    candidates = document()["candidates"]
    candidates[2]["recipe"] = [{"strategy": text, "params": {text: text}}]
    step = {"recipe": candidates[2]["recipe"], "strategy": text, "reason": text, "latency_ms": 1.0}
    spoiled = {
        **dict.fromkeys(("task", "profile", "metric"), text),
        **{key: [step] for key in ("rejected", "failed", "refused")},
        "candidates": candidates,
        "warnings": [text],
        "environment": {text: text, "plugins": {text: text}},
        "budget": budget(0.2) | {"statistic": text},
    }
    page, clean = rendered(tmp_path, **spoiled), rendered(tmp_path)
    kinds = {tag for tag, _ in clean.elements}
    assert {tag for tag, _ in page.elements} <= kinds
    assert len(page.scripts) == len(clean.scripts)
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    shown = text.encode("utf-8", "replace").decode("utf-8")
    assert page.text.count(shown) >= 12, "the names are shown as they are written"
    # Plotly draws tags in these: the only ones are ours.
    drawn = [*page.traces()["recommended"]["hovertext"], page.figure["layout"]["xaxis"]["title"]["text"]]
    assert len(drawn) > 1
    for piece in drawn:
        assert "<" not in piece.replace("<b>", "").replace("</b>", "").replace("<br>", "")
    data = [n for n, a in enumerate(page.attributes("script")) if a.get("type") == "application/octet-stream"]
    assert len(data) >= 3
    assert all(re.fullmatch(r"[A-Za-z0-9+/=]*", page.scripts[n]) for n in data), "data is no markup"


def test_page_is_whole_without_a_network(tmp_path: Path, real_plotly: None) -> None:
    page = rendered(tmp_path)
    for tag, attributes in page.elements:
        assert not {"src", "srcset", "action"} & set(attributes), tag
        assert (attributes.get("href") or "#").startswith("#"), "none of the files is there"
    assert "url(" not in page.source[: page.source.index("</style>")]
    assert "@import" not in page.source[: page.source.index("</style>")]
    policy = next(a["content"] or "" for t, a in page.elements if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; script-src 'nonce-")
    assert b"Plotly" in gzip.decompress(base64.b64decode(page.scripts[0]))
    assert len(page.source) < 3_000_000


OLD = "<title>an earlier run – autocompress</title>"


def test_a_failure_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text(OLD)
    broken = document()
    del broken["reference"]["score"]["val"]
    with pytest.raises(UsageError, match=r"the reference in front.json cannot be read \(KeyError: 'val'\)"):
        write_report(broken, path)

    def full(self: Path, *_: Any) -> int:
        self.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(Exception, match="No space left"):
        write_report(document(), path)
    assert path.read_text() == OLD
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_importing_the_module_does_not_import_the_libraries_that_draw() -> None:
    code = f"import sys, {html.__name__}; print([m for m in ('plotly', 'jinja2', 'torch') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("families", "said"), [(3, "of the 3 families trained on, too few to say much"), (6, "trained on")]
)
def test_the_correlation_between_rungs_says_of_how_many(families: int, said: str, tmp_path: Path) -> None:
    trained = [
        candidate(f"{n}-{epochs}", 0.9, 0.2, ("prune_channels", {"ratio": n}), fidelity=epochs)
        for n in range(families)
        for epochs in (1, 3)
    ]
    once = candidate("once", 0.9, 0.2, ("student", {}))
    trained += [
        candidate(f"b{n}-{e}", 0.9, 0.2, ("factorize", {"keep": n}), fidelity=e) for n in range(9) for e in (0, 1)
    ]
    page = rendered(tmp_path, candidates=[*document()["candidates"], *trained, once], rank_correlation=-0.87)
    assert f"rank correlation -0.87 of the {families} families" in page.text
    assert said in page.text
    assert ("too few" in page.text) is (families < 6), "one that was evaluated untrained was not trained on by that"


def test_how_well_untrained_scores_foretell_trained_ones_is_shown(tmp_path: Path) -> None:
    assert "untrained against trained" not in rendered(tmp_path).text
    assert "rank correlation 0.64" in rendered(tmp_path, untrained_rank_correlation=0.641).text


@pytest.mark.parametrize(("asked", "shown"), [(budget(0.2), 0.16), (budget(speedup=4), 0.125)], ids=["ms", "speed-up"])
def test_milliseconds_are_the_same_wherever_they_are_shown(asked: dict[str, Any], shown: float, capsys: Any) -> None:
    """The percentile that a budget of milliseconds bounds is the one that was judged, which was of a busier moment."""
    whole = document(budget=asked, schema=2)
    chosen = whole["candidates"][2]
    chosen["latency_ms"]["statistic"] = 0.16
    assert f"p90 {shown:g} ms" in explain.conclusion(whole)
    assert points.row_of(chosen | {"role": "", "is_reference": False}, whole)["p90"] == f"{shown:.3f}"
    print_front(Console(width=120), whole, "run")
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "prune_channels" in line and "Rec" not in line)
    assert f" {shown:g} " in line


# -- a metric of which lower is better ---------------------------------------------------------------------------------


def errors(**changes: Any) -> dict[str, Any]:
    """The same run, of an error: the file that is recommended is the better of two within the budget."""
    turned = document(metric="rmse", maximize=False, **changes)
    for entry in (turned["reference"], *turned["candidates"]):
        score = dict(entry["score"])
        entry["score"] = {
            "val": 60 - 5 * score["val"],
            "val_low": 60 - 5 * score["val_high"],
            "val_high": 60 - 5 * score["val_low"],
            "test": None if score["test"] is None else 60 - 5 * score["test"],
            "sampled": None,
        }
    return turned


def test_an_error_is_shown_as_it_is_and_the_lowest_is_the_most_accurate():
    told = errors()
    told["candidates"].append(candidate("worse", 59.9, 0.12) | {"feasible": True})
    assert "the most accurate of the 2 that meet the budget" in explain.conclusion(told)
    assert "validation 55.34 (+0.014), test 55.35" in explain.conclusion(told)


def test_the_smallest_file_that_keeps_an_error_is_not_one_that_makes_it_larger():
    told = errors(budget=budget(0.2, max_drop=2))
    told["candidates"].append(candidate("worse", 59.9, 0.12, compressed_bytes=10))
    told["candidates"].append(candidate("good", 55.33, 0.5, compressed_bytes=1000))
    assert "candidates/good/" in str(explain.smallest(told))


def test_the_chart_of_an_error_has_better_files_further_up(tmp_path: Path):
    path = tmp_path / "report.html"
    told = errors()
    told["candidates"] = [c for c in told["candidates"] if c["id"] != "slow"]
    write_report(told, path)
    assert Page(path.read_text("utf-8")).figure["layout"]["yaxis"]["autorange"] == "reversed"
    told["candidates"].append(candidate("far", 90.0, 0.3, on_front=False))
    write_report(told, path)
    page = Page(path.read_text("utf-8"))
    low, high = page.figure["layout"]["yaxis"]["range"]
    assert 90 > low > 55.4 > high
    assert "1 far below is out of view" in page.text


def test_points_of_an_error_are_said_in_its_unit():
    told = errors(budget=budget(max_drop=2))
    assert "lose at most 2 points (0.02 of rmse)" in explain.conclusion(told)


BY_CLASS = {
    "by": "class",
    "rows": [
        {
            "name": EVIL,
            "examples": 1200,
            "reference": 0.95,
            "score": 0.85,
            "loss": {"points": 10.0, "error": 1.0},
            "surely": True,
        },
        {
            "name": "dog",
            "examples": 90,
            "reference": 0.9,
            "score": 0.91,
            "loss": {"points": -1.0, "error": 2.0},
            "surely": False,
        },
    ],
    "too_few": ["owl"],
}


def test_what_each_class_loses_is_a_table_that_marks_whom_it_hurts(tmp_path: Path):
    page = rendered(tmp_path, by_class=BY_CLASS)
    assert (
        f"The average hides whom it hurts: class {EVIL} loses 10.00 points (give or take 1.96, 1,200 examples)."
        in page.text
    )
    assert "Too few examples to say: owl." in page.text
    assert f"{EVIL} more than the average 1,200 95.00 % 85.00 % -10.00 ± 1.96" in page.text
    assert "dog 90 90.00 % 91.00 % +1.00 ± 3.92" in page.text
    assert EVIL not in page.source


def test_where_no_class_is_hurt_that_is_said(tmp_path: Path):
    rows = [row | {"surely": False} for row in BY_CLASS["rows"][1:]]
    page = rendered(tmp_path, by_class=BY_CLASS | {"rows": rows, "too_few": []})
    assert "Of 1 class none surely loses a point more than the average; most: class dog gains 1.00 points" in page.text
    assert "Change by class" not in rendered(tmp_path).text


def changed() -> dict[str, Any]:
    example = {"number": 217, "loss": {"points": 100.0}, "target": "5", "reference": "5", "own": EVIL}
    by_length = {"by": "length", "rows": [BY_CLASS["rows"][0] | {"name": "90 to 120"}], "too_few": []}
    return {"examples": 550, "sampled_of": None, "worse": 9, "better": 6, "most": [example], "by_length": by_length}


def test_the_examples_that_changed_most_stand_with_both_answers_and_their_input(tmp_path: Path):
    page = rendered(tmp_path, Recorded(pictures={217: "iVBORw0KGgo="}), changed=changed())
    assert "Of 550 validation examples 9 score worse than with the reference, 6 better." in page.text
    assert f"217 5 5 {EVIL} -100.00" in page.text
    assert 'src="data:image/png;base64,iVBORw0KGgo="' in page.source
    assert EVIL not in page.source
    assert "Change by length" in page.text
    assert "length 90 to 120 loses 10.00 points" in page.text, "what is long surely loses more"


def test_of_an_unchanged_model_no_example_is_said_to_be_worse(tmp_path: Path):
    assert "On which examples it does worse is not known" in rendered(tmp_path, changed=None).text
    assert "On which examples" not in rendered(tmp_path, changed=None, recommended="ref").text


def test_what_is_no_picture_is_not_shown_as_one(tmp_path: Path):
    page = rendered(tmp_path, Recorded(pictures={217: 'x" onerror="alert(1)'}), changed=changed())
    assert "<img" not in page.source
    assert "217 5 5" in page.text
    assert "Examples that changed most" not in rendered(tmp_path).text


def on_few_rows(*layers: str, whole_split: bool = False) -> dict[str, Any]:
    rows = [{"layer": layer, "rows": 189, "regressors": 512} for layer in layers]
    return {"examples": 251, "digest": "d", "whole_split": whole_split, "few_rows": rows}


ONE = "Layers repaired on few rows for their width: "


@pytest.mark.parametrize(
    ("calibration", "epochs", "said"),
    [
        (on_few_rows("head"), 0, f"{ONE}head (189 rows for 512 regressors). Training would make up for it."),
        (on_few_rows("head", whole_split=True), 0, "regressors). More training examples in the task would help."),
        (on_few_rows("head", whole_split=True), 3, "regressors). Training went on from there."),
        (on_few_rows("head") | {"reconstructed_on": 3200}, 0, "regressors). A reconstruction on more of them went on"),
        (on_few_rows(*"abcde"), 0, "c (189 rows for 512 regressors) and 2 more. Training"),
        ({"examples": 251, "digest": "d", "whole_split": False}, 0, None),
        (None, 0, None),
    ],
)
def test_layers_that_were_repaired_on_few_rows_are_told_with_what_would_help(
    calibration: dict[str, Any] | None, epochs: float, said: str | None, tmp_path: Path
) -> None:
    console, whole = Console(record=True, width=2000), document()
    chosen = next(c for c in whole["candidates"] if c["id"] == whole["recommended"])
    chosen |= {"calibration": calibration, "fidelity": epochs}
    print_front(console, whole, "runs/x")
    card = model_card(whole)
    assert card is not None
    assert (ONE in card) == (said is not None)
    page, shown = rendered(tmp_path, candidates=whole["candidates"]).text, console.export_text()
    for text, tells in ((page, said is not None), (shown, said is not None and not epochs)):
        assert (said or ONE in text) if tells else (ONE not in text)
        assert not tells or str(said) in text
