"""What a report shows of a run's record: every session of any file; and what it says where there is none to read."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autocompress.candidate.preparation import EarlierPreparation
from autocompress.comparison import TimingSession
from autocompress.evaluation import Evaluation, Outcome, Score
from autocompress.explore.history.facts import Timed, fact_to_json
from autocompress.explore.opening.identity import RECORD_SCHEMA
from autocompress.explore.opening.opening import EarlierOpening
from autocompress.explore.progress import Progress
from autocompress.latency import Latency
from autocompress.machine.blocks import Blocks
from autocompress.recipe import Recipe
from autocompress.report.html import write_report
from autocompress.report.record_reading import read_recorded
from autocompress.report.recorded import Recorded
from autocompress.storage.record import open_record
from autocompress.storage.recorded_blocks import save_blocks
from autocompress.storage.store import Store
from tests.report.pages import Page, document

EARLIER = Path(__file__).parent.parent / "fixtures" / "finished_run" / "study.db"


@pytest.fixture
def study(tmp_path: Path, make_latency: Callable[..., Latency], make_session: Callable[..., TimingSession]) -> Path:
    """Of a search that timed its reference twice and the file ``both`` three times, once on a busy machine."""
    record = open_record(tmp_path / "study.db")
    progress = Progress(record)
    progress.keep_schema(RECORD_SCHEMA)
    score, sizes = Score(0.9, 0.88, 0.92), (10, 8, 5, 7)
    reference = Evaluation(
        "reference", Recipe(), 0, 0, score, make_latency(sessions=2), *sizes, "reference/model.onnx", "r", "whole", "o"
    )
    both = replace(reference, id="both", latency=make_latency(0.25, sessions=2), digest="b", graph="small")
    opening = EarlierOpening(EarlierPreparation("f", "e", "", None, None, 0, {}), reference, Outcome((both,)))
    progress.keep_opened(identity={}, prepared_s=1.0, floor=None, opening=opening.to_json())
    record.append("fact", {**fact_to_json(Timed("small", make_session(0.5, quiet=False))), "number": 0})
    record.close()
    return tmp_path / "study.db"


def test_every_session_of_any_file_is_in_the_report_beside_the_reference(study: Path) -> None:
    recorded = read_recorded(study, ())
    assert not recorded.why
    path = study.parent / "report.html"
    write_report(document(), path, recorded)
    page = Page(path.read_text("utf-8"))
    data = page.data(id="sessions-data")
    assert {name: len(data["rows"][graph]) for name, graph in data["files"].items()} == {"both": 3, "reference": 2}
    shown = data["rows"][data["files"]["both"]]
    assert [row[3] for row in shown] == ["4.00×", "4.00×", "2.00× (busy)"]
    assert [row[6] for row in shown] == ["20 of 40", "20 of 40", "0 of 40"]
    assert " ".join(filter(None, shown[2])) in page.text, "those of the recommended file are there without any script"
    assert [name for name in page.data(id="candidates-data")["sessions"] if name] == ["both"]


def test_the_blocks_of_what_is_on_the_front_are_drawn_where_they_are_kept(
    study: Path, make_session: Callable[..., TimingSession]
) -> None:
    reference = np.array([1.0, 1.01, 1.6, 1.0, 1.0])
    raw = save_blocks(Store(study.parent / "store"), Blocks((np.full(9, 0.25),) * 3 + (np.array([0.5]),), reference))
    kept, gone = replace(make_session(0.25), raw=raw, slowed=0.9), replace(make_session(0.25), raw="blocks-" + 20 * "0")
    path = study.parent / "report.html"
    write_report(document(), path, Recorded({"both": (kept, gone, replace(kept, quiet=0)), "slow": (kept,)}))
    data = Page(path.read_text("utf-8")).data(id="sessions-data")
    drawn, lost, busy = data["blocks"][data["files"]["both"]]
    assert drawn == {"own": [100, 100, 100, 200], "reference": [100, 101, 160, 100, 100], "quiet": "1001"}
    assert lost is None, "what is not in the store any more"
    assert busy["quiet"] == "0000", "of a session that counts as busy no block does"
    assert data["blocks"][data["files"]["slow"]] == [], "it is neither on the front nor chosen"


def test_reading_it_changes_nothing_in_the_run(study: Path) -> None:
    before = {path.name: path.read_bytes() for path in study.parent.iterdir()}
    read_recorded(study, ())
    assert {path.name: path.read_bytes() for path in study.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda study: study.unlink(), "study.db is missing"),
        (lambda study: study.write_text("not a database"), r"study.db cannot be read \(.*not a database"),
        (lambda study: study.write_bytes(study.read_bytes()[:9000]), r"study.db cannot be read \("),
        (lambda study: shutil.copy(EARLIER, study), "cannot be read .*written by another version of autocompress"),
    ],
    ids=["gone", "something else", "cut off", "another version"],
)
def test_a_record_that_cannot_be_read_is_told_and_the_rest_is_shown(
    spoil: Callable[[Path], object], why: str, study: Path
) -> None:
    spoil(study)
    recorded = read_recorded(study, ())
    assert recorded.sessions == {}
    path = study.parent / "report.html"
    write_report(document(), path, recorded)
    text = Page(path.read_text("utf-8")).text
    assert re.search(f"No timing sessions, and nothing on which choices mattered: .*{why}", text)
    assert "Timing sessions" not in text
    assert "Recommended: prune_channels + quantize_static" in text
