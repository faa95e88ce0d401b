"""The report in a real browser: no errors, and what a reader does to it, with 2,000 candidates and 3,000 rejected.

A script with the page's own nonce does what a reader does and leaves what it saw in the page, which the browser prints.
What a reader does with keys is done by pressing them.
"""

import copy
import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from autocompress.comparison import TimingSession
from autocompress.report.html import write_report
from autocompress.report.recorded import Importances, Recorded
from tests.report.browser import BROWSER, OPTIONS, Browser
from tests.report.pages import EVIL, document

MANY, REJECTED = 2000, 3000
LARGEST = 6_000_000  # bytes
EVERY = MANY + REJECTED + 3  # rows, with what failed
WATCH = """
window.seen = [];
window.alert = (said) => seen.push(`alert: ${said}`);
addEventListener("error", (event) => seen.push(`error: ${event.message}`));
addEventListener("unhandledrejection", (event) => seen.push(`rejected: ${event.reason}`));
addEventListener("securitypolicyviolation", (event) => seen.push(`blocked: ${event.violatedDirective}`));
for (const kind of ["error", "warn"]) console[kind] = (...said) => seen.push(`${kind}: ${said.join(" ")}`);
"""
ACT = """
const found = {};
const table = document.getElementById("candidates");
const rows = () => [...table.tBodies[0].rows];
const column = (at) => rows().map((row) => row.cells[at].firstChild.data);
const shown = () => rows().length;
const counted = () => document.querySelector("[data-counts]").textContent;
const set = (control, value) => { control.value = value; control.dispatchEvent(new Event("input", {bubbles: true})); };
const heading = (title) => [...table.tHead.rows[0].cells].find((cell) => cell.textContent.trim() === title);
const press = (title) => heading(title).querySelector("button").click();
function look() {
  const [text, state] = [document.querySelector("[data-filters]"), document.querySelector("[data-states=candidates]")];
  const more = document.querySelector("[data-more]");
  found.first = [shown(), counted()];
  press("p90 ms");
  more.click();
  found.ascending = [heading("p90 ms").ariaSort, column(5)];
  press("p90 ms");
  more.click();
  found.descending = [heading("p90 ms").ariaSort, column(5)];
  press("validation");
  found.best = [heading("validation").ariaSort, heading("p90 ms").ariaSort, column(1)[0]];
  press("recipe");
  more.click();
  found.names = column(0).length && rows().map((row) => row.cells[0].firstChild.textContent);
  press("precision");
  found.precision = column(7)[0];
  set(text, "LOWRANK (6.0");
  found.text = [shown(), counted()];
  set(text, "");
  set(state, "front");
  found.front = [shown(), column(0)];
  set(text, "");
  found.links = [...table.querySelectorAll("a")].map((one) => one.href);
  found.evil = [...table.querySelectorAll("small, .name")].filter((one) => one.textContent.includes("alert(1)")).length;
  set(state, "");
  more.click();
  found.all = shown();
  document.querySelector('button[data-sessions="int8"]').click();
  found.sessions = document.getElementById("sessions").tBodies[0].textContent.trim().replace(/\\s+/g, " ");
  found.chosen = document.querySelector("[data-shows]").value;
  const chart = document.getElementById("chart");
  found.points = chart.data.reduce((sum, trace) => sum + trace.x.length, 0);
  const front = chart.data.findIndex((trace) => trace.name === "Pareto front");
  Plotly.Fx.hover(chart, [{curveNumber: front, pointNumber: 0}]);
  found.hover = [...chart.querySelectorAll(".hoverlayer text")].map((one) => one.textContent).join(" ");
  found.charts = document.querySelectorAll(".chart .main-svg").length;
  found.focusable = [...document.querySelectorAll("button, input, select, a, .box")].every((one) => one.tabIndex >= 0);
  found.outside = performance.getEntriesByType("resource").map((one) => one.name);
  found.paper = chart.layout.paper_bgcolor;
  found.scrolls = document.documentElement.scrollWidth > document.documentElement.clientWidth;
  found.page = getComputedStyle(document.body).backgroundColor;
  found.seen = seen;
}
const wait = setInterval(() => {
  if (!("drawn" in document.documentElement.dataset)) return;
  clearInterval(wait);
  try { look(); } catch (error) { found.failed = `${error} ${error.stack}`; }
  const result = document.createElement("pre");
  result.id = "result";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
}, 20);
"""

pytestmark = [
    pytest.mark.skipif(
        BROWSER is None,
        reason="no chromium here: sorting, filtering, hovering, links and escaping are not tried in a browser; what "
        "they work on is asserted in test_every_candidate.py and test_html.py",
    ),
    pytest.mark.usefixtures("real_plotly"),
]


def many(whole: dict[str, Any]) -> dict[str, Any]:
    """A run of 2,000 candidates and 3,000 rejected: its own, again and again, with other numbers."""
    made, rejected = whole["candidates"], whole["rejected"]
    for n in range(REJECTED - len(rejected)):
        recipe = [{"strategy": "lowrank", "params": {"rank": 7.0 + n, "importance": "surgeon"}}]
        rejected.append({"recipe": recipe, "reason": f"over the budget ({n} ms)", "latency_ms": 0.2 + n})
    for n in range(MANY - len(made)):
        one = copy.deepcopy(made[1 + n % 3])
        one |= {"id": f"copy{n:05}-1", "artifact": f"candidates/copy{n:05}-1/model.onnx", "on_front": False}
        one["recipe"][0]["params"] = {"ratio": n / MANY, "importance": "surgeon", "allocation": "sensitivity"}
        one["latency_ms"] = {key: value * (1.1 + (n * 7919 % MANY) / MANY) for key, value in one["latency_ms"].items()}
        one["score"] = {**one["score"], "val": 0.9 + (n * 104729 % MANY) / MANY / 50}
        made.append(one | {"elapsed_s": float(n)})
    return whole


def report_of(whole: dict[str, Any], folder: Path) -> Path:
    """A report of a run with one file that is there, one of a hostile name, and sessions of all."""
    whole["candidates"][1]["recipe"][0] |= {"strategy": EVIL, "params": {EVIL: EVIL}}
    (folder / "candidates" / "both").mkdir(parents=True)
    (folder / "candidates" / "both" / "model.onnx").write_text("here")
    session = TimingSession(-1.0, -1.0, 0.3, 0.3, 0.27, 0.3, 0.9, 20, 40)
    sessions = {c["id"]: (session,) * 2 for c in whole["candidates"]} | {"int8": (session,)}
    importances = [Importances("score", "every recipe", 40, ((EVIL, 0.7), ("student", 0.1)))]
    write_report(whole, folder / "report.html", Recorded(sessions, importances))
    return folder / "report.html"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a reader saw of a report of 2,000 candidates."""
    report = report_of(many(document()), tmp_path_factory.mktemp("report"))
    assert report.stat().st_size < LARGEST
    return {**looked_at(report), "root": report.parent.as_uri()}


def looked_at(report: Path, *options: str) -> dict[str, Any]:
    """What the script found in a page, opened with these options of the browser."""
    page = report.read_text("utf-8")
    (nonce,) = set(re.findall(r'<script nonce="([\w-]+)"', page))
    acted = report.with_name("acted.html")
    script = f'<script nonce="{nonce}">{{}}</script>'
    page = page.replace("<body>", f"<body>{script.format(WATCH)}", 1)
    acted.write_text(page.replace("</body>", f"{script.format(ACT)}</body>"), "utf-8")
    assert BROWSER is not None
    command = [BROWSER, *OPTIONS, f"--user-data-dir={report.parent / 'browser'}"]
    command += [*options, "--virtual-time-budget=60000", "--dump-dom", acted.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    (found,) = re.findall(r'<pre id="result">(.*?)</pre>', ran.stdout, re.DOTALL)
    told: dict[str, Any] = json.loads(found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert "failed" not in told, told["failed"]
    return told


def test_nothing_goes_wrong_and_nothing_is_fetched(seen: dict[str, Any]) -> None:
    assert seen["seen"] == []
    assert seen["outside"] == []
    assert seen["charts"] >= 2
    assert seen["points"] >= MANY
    assert seen["evil"] >= 2, "a hostile name is shown as it is written"


def test_a_heading_sorts_its_column_both_ways_with_what_has_no_value_last(seen: dict[str, Any]) -> None:
    for (said, column), order in ((seen["ascending"], 1), (seen["descending"], -1)):
        assert len(column) == EVERY
        values = [float(value) for value in column if value != "-"]
        assert said == ("ascending" if order == 1 else "descending")
        in_order = all(order * (after - before) >= -0.005 * before for before, after in itertools.pairwise(values))
        assert in_order, "of equal texts the numbers behind them may be in any order"
        assert column[-3:] == ["-"] * 3
        assert "-" not in column[:-3]
    assert seen["best"] == ["descending", "none", "93.47 %"]
    assert seen["names"][0].lower() <= seen["names"][-1].lower()
    assert seen["names"] != sorted(seen["names"], reverse=True)
    assert seen["precision"] == "int8 static"


def test_a_text_and_a_state_filter_the_rows(seen: dict[str, Any]) -> None:
    assert seen["first"] == [200, f"{EVERY} found, the first 200 shown"]
    assert seen["text"] == [1, "1 found"]
    assert seen["front"][0] == 2
    assert seen["all"] == EVERY


def test_hovering_shows_the_recipe_and_the_sessions_of_any_file_are_a_click_away(seen: dict[str, Any]) -> None:
    assert "prune_channels + quantize_static" in seen["hover"]
    assert "93.12 %" in seen["hover"]
    assert seen["chosen"] == "int8"
    assert re.match(r"0 s ?0\.270 ?0\.900 ?2\.72×", seen["sessions"]), "one session of its own"


def test_links_lead_to_files_of_the_run_and_everything_can_have_the_focus(seen: dict[str, Any]) -> None:
    assert seen["links"] == [f"{seen['root']}/candidates/both/model.onnx"]
    assert seen["focusable"]


def test_on_a_narrow_dark_screen_page_and_chart_are_dark_and_only_tables_scroll_sideways(tmp_path: Path) -> None:
    report = report_of(document(), tmp_path)
    found = looked_at(report, "--blink-settings=preferredColorScheme=0", "--window-size=500,900")
    assert found["page"] == "rgb(21, 24, 28)"
    assert found["paper"] == "#15181c"
    assert not found["scrolls"]
    assert found["seen"] == []


def test_by_keys_alone_a_reader_sorts_filters_and_sees_the_sessions_of_a_file(tmp_path: Path) -> None:
    names = '[...document.querySelectorAll("#candidates tbody .name")].map((one) => one.textContent)'
    with Browser(report_of(document(), tmp_path)) as browser:
        browser.tab_to('one.matches("[data-filters]")')
        browser.type("prune")
        assert browser.value('document.querySelector("[data-counts]").textContent') == "2 found"
        browser.tab_to('one.matches("[data-states]")')
        browser.press("ArrowDown")
        assert browser.value("document.activeElement.value") == "front", "an arrow chooses"
        assert browser.value(f"{names}.length") == 1
        browser.press("ArrowUp")
        browser.tab_to('one.closest("#candidates th") && one.textContent === "speed-up (p50)"')
        browser.press("Enter")
        faster = browser.value(names)
        assert browser.value('document.activeElement.closest("th").ariaSort') == "descending"
        browser.press(" ")
        assert browser.value(names) == faster[::-1], "a key sorts the other way, and keeps the focus"
        assert len(set(faster)) == 2
        browser.tab_to("one.dataset.sessions === 'both'")
        browser.press("Enter")
        assert browser.value("document.activeElement.matches('[data-shows]') && document.activeElement.value") == "both"
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert browser.value(outline) == "solid", "one sees where the focus is"


def test_a_table_that_scrolls_does_by_arrows(tmp_path: Path) -> None:
    with Browser(report_of(many(document()), tmp_path)) as browser:
        browser.tab_to("one.matches(\"[aria-label='Every candidate']\")")
        browser.press("ArrowDown", 3)
        browser.wait("document.activeElement.scrollTop > 0")


def test_on_paper_nothing_is_cut_off(tmp_path: Path) -> None:
    over = """[...document.querySelectorAll("main *")].filter((one) => {
        const [own, page] = [one.getBoundingClientRect(), document.documentElement.clientWidth];
        return own.width && !one.closest(".chart") && (own.right > page + 1 || own.left < -1);
    }).map((one) => `${one.tagName} ${one.textContent.slice(0, 60)}`)"""
    with Browser(report_of(document(), tmp_path)) as browser:
        browser.ask("Emulation.setEmulatedMedia", media="print")
        browser.ask("Emulation.setDeviceMetricsOverride", width=718, height=1000, deviceScaleFactor=1, mobile=False)
        assert browser.value(over) == [], "on a sheet of A4"
        hidden = 'getComputedStyle(document.querySelector("nav")).display'
        assert browser.value(hidden) == "none", "what is for the screen alone is left out"
        assert browser.printed().startswith(b"%PDF")
