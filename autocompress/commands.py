"""What the smaller commands do: each takes plain arguments and returns plain data for the CLI to print."""

import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from autocompress.candidate.artifact import profile_inputs
from autocompress.candidate.bench import Bench, Request
from autocompress.candidate.count import count
from autocompress.candidate.evaluate import Latency, feed_of
from autocompress.candidate.export import export
from autocompress.candidate.measure import FINAL, FULL, measure, timer
from autocompress.candidate.opening import complete
from autocompress.candidate.pipeline import evaluate
from autocompress.candidate.preparation import prepare, read_task
from autocompress.candidate.rung import load_weights
from autocompress.candidate.structure import build
from autocompress.candidate.variants import rewrite
from autocompress.data import Split
from autocompress.errors import AutocompressError, CandidateFailed, UsageError, one_line
from autocompress.explore.space import load_space
from autocompress.plugin.contract import Feed, Runtime, stages_of
from autocompress.plugin.loader import load_plugins
from autocompress.profile import HardwareProfile, load_profile
from autocompress.recipe import TRAIN, RecipeFile
from autocompress.run.document import deliver
from autocompress.run.folder import RunFolder, read_front
from autocompress.run.store import Store, copy_file, replacing, write_text
from autocompress.task import load_task

SAME_OUTPUTS = 1e-4  # apply: between the model made again and the stored one
RATIO_TOLERANCE = 0.15  # verify: how far a ratio may move between two measurements


def list_plugins() -> dict[str, Any]:
    """Strategies, runtimes and spaces with their distribution, and what was left out."""
    plugins = load_plugins()
    return {
        "strategies": {
            name: {
                "stages": [stage.name.lower() for stage in stages_of(strategy)],
                "summary": strategy.summary,
                "from": plugins.origin[f"strategies:{name}"],
            }
            for name, strategy in sorted(plugins.strategies.items())
        },
        "runtimes": {
            n: {"version": r.version(), "from": plugins.origin[f"runtimes:{n}"]}
            for n, r in sorted(plugins.runtimes.items())
        },
        "spaces": {n: {"from": plugins.origin[f"spaces:{n}"]} for n in sorted(plugins.spaces)},
        "left_out": [str(broken) for broken in plugins.broken],
    }


def list_spaces() -> dict[str, Any]:
    plugins = load_plugins()
    spaces = {name: load_space(name, plugins) for name in sorted(plugins.spaces)}
    return {
        name: {
            "description": s.description,
            "strategies": list(s.strategies or ["all installed"]),
            "from": plugins.origin[f"spaces:{name}"],
        }
        for name, s in spaces.items()
    }


def measure_file(path: Path, profile_name: str) -> dict[str, Any]:
    """Latency of an ONNX file on random inputs of its own shapes; free dimensions become the profile's batch."""
    profile = load_profile(profile_name)
    runtime = load_plugins().runtime(profile.runtime)
    feeds = [random_feed(path, profile, seed) for seed in range(4)]
    one, other = (timer(runtime, runtime.open(path, profile), feeds) for _ in range(2))
    latency = measure(one, other, profile, effort=FULL)
    params, macs = count(path)
    return {
        "model": str(path),
        "profile": profile.name,
        "latency_ms": {
            "p50": latency.p50,
            "p90": latency.p90,
            profile.statistic: latency.statistic,
            "low": latency.low,
            "high": latency.high,
            "reliable": latency.reliable,
        },
        "params": params,
        "macs": macs,
        "size_bytes": path.stat().st_size,
    }


def random_feed(path: Path, profile: HardwareProfile, seed: int) -> Feed:
    """Inputs of the file's own shapes and types. Raises UsageError when it is not an ONNX file or keeps its weights
    elsewhere.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:  # protobuf raises its own kinds
        raise UsageError(f"{path} is not an ONNX file: {one_line(error, 120)}") from error
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer):
        raise UsageError(
            f"{path} keeps its weights in other files, which may point anywhere: give a file that holds its own weights"
        )
    known = {t.name for t in model.graph.initializer}
    random = np.random.default_rng(seed)
    feed: dict[str, Any] = {}
    for value in (v for v in model.graph.input if v.name not in known):
        free = [i for i, d in enumerate(value.type.tensor_type.shape.dim) if not d.HasField("dim_value")]
        if free not in ([], [0]):
            raise UsageError(
                f"{path}: input {value.name} has free dimensions {free} beside the batch: fix their sizes first"
            )
        shape = [
            d.dim_value if i not in free else profile.batch for i, d in enumerate(value.type.tensor_type.shape.dim)
        ]
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feed[value.name] = (
            random.standard_normal(shape) if np.issubdtype(kind, np.floating) else random.integers(0, 2, shape)
        ).astype(kind)
    return feed


def verify_run(root: Path) -> dict[str, Any]:
    """Time the recommended model of a run beside its reference again. ``holds`` is False when the budget is no
    longer met, or the ratio moved by more than 15 %."""
    document = read_front(root)
    chosen = next((c for c in document["candidates"] if c["id"] == document["recommended"]), None)
    if chosen is None:
        raise UsageError(f"{root} recommends nothing, so there is nothing to verify")
    profile = HardwareProfile.model_validate(document["environment"]["profile"])
    runtime = load_plugins().runtime(profile.runtime)
    path, reference = root / "recommended" / "model.onnx", root / document["reference"]["artifact"]
    for file in (path, reference):
        if not file.exists():
            raise UsageError(f"{file} is missing: run the search again with --out {root}")
    latency = _beside(runtime, profile, path, reference)
    budget, told = document["budget"], chosen["latency_ms"]["ratio"]
    problems = []
    if budget["latency_ms"] and latency.statistic > budget["latency_ms"]:
        problems.append(f"takes {latency.statistic:.4g} ms, the budget is {budget['latency_ms']:g} ms")
    if budget["speedup"] and latency.ratio_low * budget["speedup"] > 1:
        problems.append(f"is {1 / latency.ratio:.2f}x faster, the budget is {budget['speedup']:g}x")
    if abs(latency.ratio / told - 1) > RATIO_TOLERANCE:
        problems.append(f"has ratio {latency.ratio:.3f}, the run says {told:.3f}")
    if not latency.reliable:
        problems.append("cannot be timed reliably now: the machine is busy")
    return {
        "run": str(root),
        "holds": not problems,
        "problems": problems,
        "latency_ms": asdict(latency),
        "recorded_ratio": told,
    }


def _beside(runtime: Runtime, profile: HardwareProfile, path: Path, reference: Path) -> Latency:
    feeds = [random_feed(path, profile, seed) for seed in range(4)]
    one, other = (timer(runtime, runtime.open(file, profile), feeds) for file in (path, reference))
    return measure(one, other, profile, effort=FINAL)


def apply_recipe(recipe: Path, target: str, out: Path | None, redo: bool) -> str:
    """Make the model of a ``recipe.toml`` again and return a line that says where it is and how near it comes to the
    stored one.
    """
    stored = RecipeFile.read(recipe)
    folder, profile, plugins, task = (
        out or Path("applied") / stored.recipe.id,
        HardwareProfile.model_validate(stored.hardware) if stored.hardware else load_profile(stored.profile),
        load_plugins(),
        load_task(target),
    )
    needed = [s.strategy for s in (*stored.recipe.steps, stored.recipe.variant) if s and s.strategy != TRAIN]
    for name in needed:
        plugins.strategy(name)  # an absent plug-in is an error before anything is made
    with tempfile.TemporaryDirectory(prefix="autocompress-") as scratch:
        if redo:
            bench, _ = complete(
                prepare(task, profile, plugins, RunFolder(Path(scratch)), seed=stored.seed, only=needed)
            )
            return _redo(bench, stored, folder)
        reference = Path(scratch) / "reference.onnx"
        read = read_task(task, profile, plugins.runtime(profile.runtime), reference, stored.seed)
        if read.fingerprint != stored.fingerprint:
            raise UsageError(
                f"{recipe} was made for another task ({stored.task}, "
                f"{stored.fingerprint}; this one is {read.fingerprint}): "
                "give the task it was made for"
            )
        inputs = next(profile_inputs(read.splits["val"], profile.batch, 1))
        export(read.context.model, inputs, reference, stored.exporter)
        model, _ = build(stored.recipe, read.context, plugins, stored.plans)
        kept = replace(stored, weights="weights.safetensors" if stored.weights else None)
        if stored.weights is not None:
            weights = recipe.parent / stored.weights
            if not weights.exists():
                raise UsageError(f"the weights {weights} are missing: --redo trains them anew")
            try:
                load_weights(Store(weights.parent), model, weights.stem)
            except CandidateFailed as error:
                raise UsageError(f"{error.reason}: --redo trains them anew") from error
            copy_file(weights, folder / "weights.safetensors")
        source = Path(scratch) / "float.onnx"
        export(model, inputs, source, stored.exporter)
        with replacing(folder / "model.onnx") as temporary:
            if stored.recipe.variant is None:
                shutil.copyfile(source, temporary)
            else:
                context = replace(read.context, learned=stored.learned)
                rewrite(plugins, stored.recipe.variant, source, temporary, context)
        write_text(folder / "recipe.toml", kept.to_toml())
        made, beside = f"{folder / 'model.onnx'} made from {stored.recipe}", recipe.with_name("model.onnx")
        if not beside.exists():
            return made
        worst = _difference(
            plugins.runtime(profile.runtime), profile, read.splits["val"], beside, folder / "model.onnx"
        )
        if worst > SAME_OUTPUTS:
            raise AutocompressError(
                f"{folder / 'model.onnx'} was made, but its outputs differ from {beside} by {worst:.2g} "
                f"(allowed {SAME_OUTPUTS:g}): the versions of torch or onnxruntime may not be those of the run"
            )
        return f"{made}; its outputs differ from {beside} by at most {worst:.2g}"


def _redo(bench: Bench, stored: RecipeFile, target: Path) -> str:
    """Plan and train anew, with the stored length of training."""
    examples = round(stored.epochs * len(bench.context.train))
    outcome = evaluate(bench, Request(stored.recipe.family, examples=examples))
    made = next((e for e in outcome.evaluations if e.recipe == stored.recipe), None)
    if made is None:
        causes = [reason for _, _, reason in outcome.failed] + [s.reason for s in outcome.slower]
        causes = causes or [f"{stored.recipe.variant} is not among what that strategy now offers for this task"]
        raise AutocompressError(f"the recipe could not be made again: {'; '.join(causes)}")
    deliver(bench.folder, made, target)
    return (
        f"{target / 'model.onnx'} trained anew from {stored.recipe}: validation "
        f"{made.score.val:.4f} (stored: {stored.facts.get('val')})"
    )


def _difference(runtime: Runtime, profile: HardwareProfile, val: Split, one: Path, other: Path) -> float:
    """Largest difference of two files' outputs over some validation examples."""
    sessions = [runtime.open(path, profile) for path in (one, other)]
    worst = 0.0
    for inputs in profile_inputs(val, profile.batch, 32):
        outputs = [np.asarray(s.run(feed_of(inputs, s.input_names))[0], dtype=np.float64) for s in sessions]
        worst = max(worst, float(np.abs(outputs[0] - outputs[1]).max()))
    return worst
