"""The plot of each result. A benchmark draws its own; all that are there are drawn anew by

python benchmarks/plots.py
"""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from curve import curve_of
from repair_means import COLUMNS, means

Axes = Any
Document = Mapping[str, Any]

FRONT_SHOWN = 0.06  # of the metric: what loses more is not in the picture
WIDE = 0.8  # of the room between two groups of bars


def draw(path: Path) -> None:
    """Write ``<name>.svg`` beside ``<name>.json``. Says so where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        print("no plot without matplotlib: pip install -e '.[bench]'")
        return
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = path.stem  # the same figures, the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    kind = path.stem.partition("-")[0]
    PLOTS[kind](axes, json.loads(path.read_text("utf-8")))
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize="small")
    figure.tight_layout()
    target = path.with_suffix(".svg")
    figure.savefig(target, metadata={"Date": None})
    pyplot.close(figure)
    print(target)


def areas(axes: Axes, document: Document) -> None:
    """The area of the front over time, one colour for each kind of search, one line for each run."""
    end = 60 * document["minutes"]
    for number, (kind, own) in enumerate(document["runs"].items()):
        for again, run in enumerate(own.values()):
            curve = curve_of([tuple(seen) for seen in run["seen"]], run["reference"])
            times, values = zip(*curve, (end, curve[-1][1]), strict=True)
            label = None if again else kind.replace("_", " ")
            axes.step(times, values, where="post", color=f"C{number % 10}", alpha=0.8, label=label)
    axes.set(xlabel="seconds", ylabel="area of the front", xlim=(0, end), ylim=(0, None))


def mechanisms(axes: Axes, document: Document) -> None:
    """The same, of searches with one mechanism off, or set to another value."""
    areas(axes, document)
    axes.set_title("what is off, or set to", fontsize="medium")


def scaling(axes: Axes, document: Document) -> None:
    """What each split of the cores gives an hour."""
    names = {"trainings_an_hour": "trainings", "evaluated_an_hour": "files evaluated", "tried_an_hour": "tried"}
    found = {
        label: [statistics.median(run[key] for run in own) for own in document["runs"].values()]
        for key, label in names.items()
    }
    _bars(axes, list(document["runs"]), found)
    axes.set(ylabel="an hour")


def devices(axes: Axes, document: Document) -> None:
    """What a session takes beside its own seconds, by where it runs."""
    found = document["overhead_s"]
    for place, (name, seconds) in enumerate(found.items()):
        axes.plot(seconds, [place] * len(seconds), "o", label=name)
    axes.set(xlabel="seconds beside the session", yticks=[], xlim=(0, None))


def first_minute(axes: Axes, document: Document) -> None:
    """When each run had its first files, by the state of the machine."""
    names = {
        "first_s": "first file",
        "changed_s": "first changed structure",
        "trained_s": "first trained, on the front",
    }
    for place, (key, label) in enumerate(names.items()):
        for state, marker in (("quiet", "o"), ("busy", "x")):
            seconds = [row[key] for row in document["rows"] if row["state"] == state and row[key] is not None]
            axes.plot(seconds, [place] * len(seconds), marker, color=f"C{place}", label=f"{label}, {state}")
    axes.set(xlabel="seconds after the command", yticks=[], xlim=(0, None))


def large_models(axes: Axes, document: Document) -> None:
    """Seconds of each step by the size of the model."""
    names = {
        "floor_s": "floor",
        "floor_s_with_all": "floor, all strategies",
        "open_s": "opening",
        "gate_s": "structure + export + gate",
    }
    rows = document["rows"]
    found = {label: [row[key] for row in rows.values()] for key, label in names.items()}
    _bars(axes, [f"{size} parameters" for size in rows], found)
    axes.set(ylabel="seconds", yscale="log")


def driver(axes: Axes, document: Document) -> None:
    """What a trial costs, by how many there were before it."""
    for key, label in (("ms_a_trial", "by the clock"), ("processor_ms_a_trial", "of the processor")):
        found = {int(trial): ms for trial, ms in document[key].items()}
        axes.plot(list(found), list(found.values()), marker="o", label=label)
    axes.set(xlabel="trial", ylabel="ms a trial", xscale="log", ylim=(0, None))
    axes.legend()


def training(axes: Axes, document: Document) -> None:
    """Examples a second of each way to train, the middle and the range."""
    found = document["examples_a_second"]
    middles = [statistics.median(speeds) for speeds in found.values()]
    spans = [
        [middle - min(speeds) for middle, speeds in zip(middles, found.values(), strict=True)],
        [max(speeds) - middle for middle, speeds in zip(middles, found.values(), strict=True)],
    ]
    axes.barh(list(found), middles, xerr=spans, capsize=3)
    axes.set(xlabel="examples a second")
    axes.invert_yaxis()


def warm_restarts(axes: Axes, document: Document) -> None:
    """The score after each training, by the share of the learning rate that the later ones warm up to."""
    for (second, third), scores in zip(document["peaks"], document["then"], strict=True):
        axes.plot([1, 2, 3], [document["first"], *scores], marker="o", label=f"up to {second:g}, then {third:g}")
    axes.set(xlabel="training", ylabel="validation score", xticks=[1, 2, 3])


def strategies(axes: Axes, document: Document) -> None:
    """Score and latency of every file, by what its recipe is there to show."""
    rows = [row for row in document["rows"] if "ratio" in row]  # what failed has none
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        axes.scatter([row["ratio"] for row in own], [row["val"] for row in own], s=18, label=arm)
    axes.axhline(document["reference"], color="0.5", linewidth=1, linestyle="--")
    axes.set(xlabel="latency, of the reference's", ylabel=document["metric"], xscale="log")


def front(axes: Axes, document: Document) -> None:
    """Score and latency of every file of a search near the front, its front and what was recommended."""
    rows = sorted(document["rows"], key=lambda row: row["ms"])
    best = [row for row in rows if row["on_front"]]
    shown = [row for row in rows if row["val"] >= document["reference"] - FRONT_SHOWN]
    axes.scatter([row["ms"] for row in shown], [100 * row["val"] for row in shown], s=16, color="0.6", label="files")
    line = [row for row in best if row in shown]
    axes.step(
        [row["ms"] for row in line],
        [100 * row["val"] for row in line],
        where="post",
        marker="o",
        color="C0",
        label="Pareto front",
    )
    for row in shown:
        if row["recommended"]:
            axes.plot([row["ms"]], [100 * row["val"]], "D", color="C3", label=f"recommended: {row['techniques']}")
    axes.axhline(100 * document["reference"], color="0.5", linewidth=1, linestyle="--", label="the model as it came")
    axes.set(xlabel="latency, p50, ms", ylabel=f"validation {document['metric']}, %", xscale="log")
    axes.set_title(f"{document['task']}, {document['minutes']:g} minutes", fontsize="medium")


def _bars(axes: Axes, groups: Sequence[str], found: Mapping[str, Iterable[float]]) -> None:
    """A bar of each series in every group."""
    width = WIDE / len(found)
    for number, (label, values) in enumerate(found.items()):
        places = [at + (number - (len(found) - 1) / 2) * width for at in range(len(groups))]
        axes.bar_label(axes.bar(places, list(values), width, label=label), fmt="%.3g", fontsize="x-small")
    axes.set_xticks(range(len(groups)), groups)


def trust_searches(axes: Axes, document: Document) -> None:
    """The share of each search's time that measuring took; of those that were made to tell it, where there are some."""
    rows = [row for row in document["rows"] if row.get("mode") == "share"] or document["rows"]
    names = [f"{row['task'].partition(':')[0]} {row['minutes']:g} min, {row['state']}" for row in rows]
    axes.barh(range(len(names)), [100 * row["measuring"] for row in rows])
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel="% of the time, measuring")


def threads(axes: Axes, document: Document) -> None:
    """What a training step takes with each number of threads, and with as many as are chosen."""
    rows = document["rows"]
    columns = [name for name in rows[0] if name.startswith("ms with ")]
    found = {name.removeprefix("ms with "): [row[name] for row in rows] for name in columns}
    _bars(axes, [f"{row['task']}, {row['state']}" for row in rows], found)
    axes.set(ylabel="ms a training step")
    axes.legend(title="threads")


def repair(axes: Axes, document: Document) -> None:
    """The untrained score by the share of the units that is gone; a colour for each way, a dash for each strength."""
    rows, dashes = document["rows"], ("-", "--", ":")
    for number, label in enumerate(dict.fromkeys(row["amounts"] for row in rows)):
        own = [row for row in rows if row["amounts"] == label]
        ratios = sorted({row["ratio"] for row in own})
        found = [means(own, ratio) for ratio in ratios]
        for color, column in enumerate(COLUMNS):
            points = [(100 * r, 100 * m[column]) for r, m in zip(ratios, found, strict=True) if column in m]
            style = {"color": f"C{color}", "linestyle": dashes[number % 3], "marker": "."}
            axes.plot(*zip(*points, strict=True), label=None if number else column, **style)
    axes.axhline(100 * document["reference"], color="0.5", linewidth=1)
    axes.set(xlabel="% of the units gone", ylabel="validation score, %, untrained")


def repair_ranks(axes: Axes, document: Document) -> None:
    """Trained score by untrained score, a point for each structure."""
    for name in ("unrepaired", "repaired"):
        rows = document["rows"]
        axes.scatter([100 * row[name] for row in rows], [100 * row["trained"] for row in rows], s=18, label=name)
    axes.set(xlabel="untrained score, %", ylabel="trained score, %")


def reconstruction(axes: Axes, document: Document) -> None:
    """Validation scores of structures as they were repaired, and reconstructed for so many seconds."""
    rows = document["rows"]
    stages = ["repaired", *(name for name in rows[0] if name.endswith(" s") and not name.startswith("examples"))]
    _bars(axes, [row["recipe"] for row in rows], {stage: [row[stage] for row in rows] for stage in stages})
    axes.axhline(document["reference"], color="black", linewidth=1, label="reference")
    axes.set(ylabel="validation score", ylim=(min(row["repaired"] for row in rows) - 0.02, None))


def loading(axes: Axes, document: Document) -> None:
    """An epoch of training by each way to hand over the same examples, over that of tensors."""
    ways = document.get("epoch", {})
    axes.barh(range(len(ways)), [way["ratio"] for way in ways.values()])
    axes.axvline(1.1, color="C3", linestyle=":", label="1.1")
    axes.set(yticks=range(len(ways)), yticklabels=list(ways), xlabel="seconds of an epoch, over tensors'")


def scoring_memory(axes: Axes, document: Document) -> None:
    """What scoring takes at its most, beside the outputs that it does not hold."""
    found = {"all outputs": document["outputs_mib"], "the whole process": document["peak_mib"]}
    found["kept of the outputs"] = document["kept_mib"]
    axes.barh(range(len(found)), list(found.values()))
    axes.set(yticks=range(len(found)), yticklabels=list(found), xlabel="MiB")
    axes.set_title(f"{document['maps']} maps, {document['metric']}", fontsize="medium")


PLOTS: dict[str, Callable[[Axes, Document], None]] = {
    "devices": devices,
    "driver": driver,
    "efficiency": areas,
    "first_minute": first_minute,
    "front": front,
    "large_models": large_models,
    "loading": loading,
    "mechanisms": mechanisms,
    "repair": repair,
    "repair_ranks": repair_ranks,
    "reconstruction": reconstruction,
    "scaling": scaling,
    "scoring_memory": scoring_memory,
    "strategies": strategies,
    "threads": threads,
    "training": training,
    "trust_searches": trust_searches,
    "warm_restarts": warm_restarts,
}

if __name__ == "__main__":
    for result in sorted((Path(__file__).parent / "results").glob("*.json")):
        draw(result)
