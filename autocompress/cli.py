"""The command line: thin commands, and the one place that turns errors into exit codes.

Everything heavy is imported inside a command, so that ``--help`` imports neither torch nor optuna.
"""

import json
import math
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autocompress.completion import profile_names, run_folders, space_names, task_files
from autocompress.errors import AutocompressError, UsageError, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from autocompress.report.json_lines import JsonLines
    from autocompress.report.runs import ReportedRun

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def _number(option: str, said: str) -> Any:
    """An option that is a number, so that a budget of ``twenty`` is our one-line error, and ``nan`` is refused."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise UsageError(f"{option} must be a number, not {one_line(text, 40)!r}") from None
        if not math.isfinite(value):
            raise UsageError(f"{option} must be a finite number, not {text}")
        return value

    return typer.Option(option, parser=read, help=said)


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Observe = Annotated[
    list[str] | None,
    typer.Option(help="Tell an installed observer what happens, such as mlflow; again for further ones."),
]
Lines = Annotated[
    bool, typer.Option("--json-lines", help="Print what happens as JSON, one object a line; text goes to stderr.")
]
Data = Annotated[
    str | None,
    typer.Option(help="Of a hub's model, as in `hf:MODEL --data DATA`: a folder, a file or a name."),
]
Checkpoint = Annotated[str | None, typer.Option(help="Weights of a hub's model, a file, in place of its own.")]
Profile = Annotated[
    str,
    typer.Option(
        help="Where the model will run: a name from `profiles`, or a TOML file.", autocompletion=profile_names
    ),
]
BudgetMs = Annotated[
    float | None, _number("--budget-ms", "Latency the model may take, in ms, on the profile's statistic.")
]
Speedup = Annotated[float | None, _number("--speedup", "Times faster than the reference, instead of --budget-ms.")]
MaxDrop = Annotated[
    float | None, _number("--max-drop", "Points (0.01 of the metric) that may be lost (1 without a budget).")
]
MaxClassDrop = Annotated[
    float | None, _number("--max-class-drop", "Points that may be lost in any one class, or group that the task names.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Debug = Annotated[bool, typer.Option("--debug", hidden=True)]
Run = Annotated[Path, typer.Argument(help="The --out folder of a search.", autocompletion=run_folders)]
TaskArgument = Annotated[
    str, typer.Argument(help="my_task.py:factory, hf:MODEL or timm:NAME", autocompletion=task_files)
]


def version(value: bool) -> None:
    if value:
        from autocompress import __version__

        typer.echo(f"autocompress {__version__}")
        raise typer.Exit


@app.callback(
    help="Search pruning, distillation and quantization together for the most accurate model within a latency budget."
)
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command("search")
def search_command(
    task: Annotated[
        str | None,
        typer.Argument(
            help="my_task.py:factory, package.module:factory, hf:MODEL or timm:NAME; without one, [tool.autocompress] "
            "or the digits demo.",
            autocompletion=task_files,
        ),
    ] = None,
    data: Data = None,
    checkpoint: Checkpoint = None,
    budget_ms: BudgetMs = None,
    speedup: Speedup = None,
    max_drop: MaxDrop = None,
    max_class_drop: MaxClassDrop = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            help="Where the model will run: a name from `profiles`, or a TOML file; again for further ones.",
            autocompletion=profile_names,
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(help="What to search: a name from `spaces`, or a TOML file.", autocompletion=space_names),
    ] = None,
    minutes: Annotated[
        float | None, _number("--minutes", "In all, over resumes, finishing included (15; the demo 1.5).")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Try at most this many families.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the cores, each with a candidate of its own.")
    ] = None,
    no_train: Annotated[
        bool | None, typer.Option("--no-train", help="Train nothing: repair, reconstruct, quantize, drop.")
    ] = None,
    explain: Annotated[
        bool | None,
        typer.Option("--explain", help="Spend a quarter of the time on what each step of the best recipe brings."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The run folder (runs/<task>). The same command on it resumes.", autocompletion=run_folders),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be tried, how long it takes and what fits; write nothing.")
    ] = False,
    as_json: Json = False,
    observe: Observe = None,
    json_lines: Lines = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find the most accurate model within a latency budget. The same command on the same --out resumes."""
    from autocompress.settings import read_settings, settings_source

    given: dict[str, Any] = {
        "budget_ms": budget_ms,
        "speedup": speedup,
        "max_drop": max_drop,
        "max_class_drop": max_class_drop,
        "minutes": minutes,
        "profile": profile[0] if profile else None,
        "space": space,
        "trials": trials,
        "workers": workers,
        "no_train": no_train,
        "explain": explain,
        "seed": seed,
        "observe": observe,
        "out": out,
        "task": task,
        "data": data,
        "checkpoint": checkpoint,
    }
    settings = {key: value for key, value in given.items() if value is not None}
    if task is None:
        settings = read_settings(Path.cwd(), settings)
    from autocompress.budget import Budget

    Budget(  # refused before anything heavy is imported
        settings.get("budget_ms"),
        settings.get("speedup"),
        settings.get("max_drop"),
        max_class_drop=settings.get("max_class_drop"),
    )
    from autocompress.api import search
    from autocompress.hub_request import target_with

    given_data = settings.pop("data", None), settings.pop("checkpoint", None)
    wanted = target_with(settings.pop("task", None), *given_data)
    if dry_run:
        if json_lines:
            raise UsageError("--json-lines prints what happens in a search, and --dry-run makes none: give --json")
        if profile is not None and len(profile) > 1:
            raise UsageError("--dry-run looks at one target: give one --profile")
        _dry_run(wanted, quiet, as_json, settings)
        return
    if as_json:
        raise UsageError("--json goes with --dry-run: --json-lines prints what happens in a search")
    with _printing(json_lines) as (console, lines):
        if task is None and wanted is not None and not quiet:
            source = settings_source(Path.cwd())
            console.print(f"Task {wanted}, as {source} says.", markup=False, highlight=False, soft_wrap=True)
        settings["observe"] = [*settings.get("observe", ()), *lines]
        if profile is not None and len(profile) > 1:
            from autocompress.several_targets import search_for

            del settings["profile"]
            results = search_for(profile, wanted, quiet=quiet, console=console, **settings)
        else:
            results = [search(wanted, quiet=quiet, console=console, **settings)]
    if any(result.recommended is None for result in results):
        raise typer.Exit(3)


def _dry_run(task: str | None, quiet: bool, as_json: bool, settings: dict[str, Any]) -> None:
    from rich.console import Console

    from autocompress.preview.dry_run import dry_run
    from autocompress.report.dry_run import print_dry_run

    console = Console(stderr=as_json)
    found = dry_run(task, quiet=quiet, console=console, **settings)
    if as_json:
        _print(found, as_json)
    elif not quiet:
        print_dry_run(console, found)


@app.command("init")
def init_command(
    folder: Annotated[
        Path, typer.Argument(help="The project: the model's code, its trained weights, its data.")
    ] = Path(),
    out: Annotated[Path | None, typer.Option(help="The file to write (my_task.py in the folder).")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take what looking found.")] = False,
    as_json: Json = False,
) -> None:
    """Write a task file for a project. The folder is read, none of its code is run, and no file is overwritten."""
    from autocompress.starting.start import start

    asks = not yes and sys.stdin.isatty()
    started = start(folder, out, _ask if asks else _take_first)
    following = f"autocompress search {shlex.quote(f'{started.file}:task')} --speedup 2 --dry-run"
    if as_json:
        made = {"file": str(started.file), "parts": started.parts, "notes": list(started.notes), "next": following}
        _print(made, as_json)
        return
    typer.echo(f"Written: {started.file}")
    _print(started.parts, as_json)
    for note in started.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"Next: {following}")


@app.command("retarget")
def retarget_command(
    run: Annotated[Path, typer.Argument(help="The run folder of a finished search.", autocompletion=run_folders)],
    task: Annotated[str | None, typer.Argument(help="my_task.py:factory; left out: where the run's came from")] = None,
    data: Data = None,
    checkpoint: Checkpoint = None,
    profile: Annotated[
        str,
        typer.Option(help="The other target: a name from `profiles`, or a TOML file.", autocompletion=profile_names),
    ] = ...,  # type: ignore[assignment]
    budget_ms: BudgetMs = None,
    speedup: Speedup = None,
    max_drop: MaxDrop = None,
    max_class_drop: MaxClassDrop = None,
    minutes: Annotated[float, _number("--minutes", "At most.")] = 5.0,
    out: Annotated[Path | None, typer.Option(help="A folder for it (the run's, with the profile's name).")] = None,
    as_json: Json = False,
    observe: Observe = None,
    json_lines: Lines = False,
    quiet: Quiet = False,
) -> None:
    """The models of a finished search on another target: re-quantized for it, measured there, a front and a
    recommendation. Nothing is trained. Without a budget it is the run's. With --json its front.json is printed, and
    text goes to stderr.
    """
    if as_json and json_lines:
        raise UsageError("--json and --json-lines exclude each other: give one of them")
    from autocompress.api import retarget

    with _printing(json_lines, as_json) as (console, lines):
        result = retarget(
            run,
            task,
            data=data,
            checkpoint=checkpoint,
            profile=profile,
            budget_ms=budget_ms,
            speedup=speedup,
            max_drop=max_drop,
            max_class_drop=max_class_drop,
            minutes=minutes,
            out=out,
            observe=[*(observe or ()), *lines],
            quiet=quiet,
            console=console,
        )
    if as_json:
        _print(result.document, as_json)
    if result.recommended is None:
        raise typer.Exit(3)


@app.command("inspect")
def inspect_command(
    task: TaskArgument,
    data: Data = None,
    checkpoint: Checkpoint = None,
    profile: Profile = "cpu",
    seconds: Annotated[
        float, typer.Option(min=0, help="How long to look for what can go of each group, about; 0 for not at all.")
    ] = 25.0,
    as_json: Json = False,
) -> None:
    """Before a search: reference score and latency, which strategies apply and why the others do not, and how much of
    each group of channels, units or heads can go.
    """
    from rich.console import Console

    from autocompress.commands.inspect import inspect_task
    from autocompress.hub_request import target_with
    from autocompress.report.inspection import print_inspection
    from autocompress.report.terminal import TerminalView

    with TerminalView(Console(stderr=True)) as view:
        found = inspect_task(target_with(task, data, checkpoint) or task, profile, view.doing, sensitivity_s=seconds)
    if as_json:
        _print(found, as_json)
    else:
        print_inspection(Console(), found)


@app.command("measure")
def measure_command(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    against: Annotated[Path | None, typer.Option(help="Another ONNX file, to say which of the two is faster.")] = None,
    within: Annotated[float, typer.Option(help="With --against: what counts as the same, a share from 0.015.")] = 0.03,
    check: Annotated[bool, typer.Option("--check", help="What of this machine makes the numbers worse.")] = False,
    profile: Profile = "cpu",
    as_json: Json = False,
) -> None:
    """Latency of any ONNX file on a profile, alone or against another file."""
    from autocompress.commands.measure import check_machine, compare_files, measure_file

    if against is not None:
        if check:
            raise UsageError("--check and --against exclude each other: give one of them")
        found = compare_files(model, against, profile, within, _say)
    else:
        found = (check_machine if check else measure_file)(model, profile)
    _print(found, as_json)


@app.command("verify")
def verify_command(run: Run, as_json: Json = False) -> None:
    """Measure a finished run again and fail if what it says no longer holds."""
    from autocompress.commands.verify import verify_run

    result = verify_run(run, _say)
    _print(result, as_json)
    if not result["holds"]:
        raise typer.Exit(1)


@app.command("apply")
def apply_command(
    recipe: Annotated[Path, typer.Argument(help="A recipe.toml of a run.")],
    task: TaskArgument,
    data: Data = None,
    checkpoint: Checkpoint = None,
    out: Annotated[Path | None, typer.Option(help="Where the model goes (applied/<recipe>).")] = None,
    redo: Annotated[
        bool, typer.Option("--redo", help="Plan and train anew instead of using the stored plans and weights.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Make one model again from its recipe."""
    from autocompress.commands.apply import apply_recipe
    from autocompress.hub_request import target_with

    typer.echo(apply_recipe(recipe, target_with(task, data, checkpoint) or task, out, redo, _say))


@app.command("report")
def report_command(
    runs: Annotated[
        list[Path],
        typer.Argument(help="The --out folder of a search; of several: they are compared.", autocompletion=run_folders),
    ],
    as_json: Json = False,
) -> None:
    """Write the HTML report of a run, and the card of its model, and print where they are. Of several runs: compare
    them, in comparison.html here.
    """
    from autocompress.report.runs import read_reported

    found = [read_reported(run, _say) for run in runs]
    if len(found) > 1:
        _compare(found, as_json)
        return
    from autocompress.report.card import write_card
    from autocompress.report.explanation import explanation
    from autocompress.report.html import write_report
    from autocompress.report.readable import as_far_as_known, readable
    from autocompress.storage.folder import RunFolder

    (run,) = found
    path = RunFolder(run.root).report
    write_report(run.document, path, run.recorded)
    document, missing = readable(run.document)
    card = as_far_as_known(lambda document: write_card(document, run.root), document, None)
    made: dict[str, Any] = {"report": str(path), **({"model_card": str(card)} if card else {})}
    made |= {"missing": missing} if missing else {}
    _print({**made, "explanation": explanation(document)} if as_json else made, as_json)


def _compare(runs: Sequence["ReportedRun"], as_json: bool) -> None:
    from autocompress.report.comparison_page import COMPARISON, write_comparison
    from autocompress.report.runs import compare_runs

    comparison, path = compare_runs(runs), Path.cwd() / COMPARISON
    write_comparison(runs, comparison, path)
    if as_json:
        _print({"report": str(path), **comparison}, as_json)
        return
    from rich.console import Console

    from autocompress.report.comparison_text import print_comparison

    print_comparison(Console(), comparison)
    _print({"report": str(path)}, as_json)


@app.command("explain")
def explain_command(run: Run, as_json: Json = False) -> None:
    """Why a run recommends what it does: each technique alone, together, what leaving one out costs, whom it hurts."""
    from autocompress.report.explain import conclusion, whom_it_hurts
    from autocompress.report.explanation import explanation
    from autocompress.report.html import NO_CONCLUSION
    from autocompress.report.readable import as_far_as_known, readable
    from autocompress.storage.recovery import read_run

    document, missing = readable(read_run(run, _say, whole=False))
    for line in missing:
        _say(line)
    found = explanation(document)
    concluded = as_far_as_known(conclusion, document, NO_CONCLUSION)
    hurts = as_far_as_known(whom_it_hurts, document, None)
    if as_json:
        _print({"conclusion": concluded, **found, "whom_it_hurts": hurts}, as_json)
        return
    said = [concluded, *(line for lines in found.values() for line in lines), hurts]
    for line in filter(None, said):
        typer.echo(line)


@app.command("plugins")
def plugins_command(as_json: Json = False) -> None:
    """What is installed, and from which distribution."""
    from autocompress.commands.listing import list_plugins

    _print(list_plugins(), as_json)


@app.command("profiles")
def profiles_command(as_json: Json = False) -> None:
    """The hardware profiles, and which of them can be used here."""
    from autocompress.commands.listing import list_profiles

    _print(list_profiles(), as_json)


@app.command("spaces")
def spaces_command(as_json: Json = False) -> None:
    """The search spaces."""
    from autocompress.commands.listing import list_spaces

    _print(list_spaces(), as_json)


def main() -> None:
    """Run a command; every error a user can act on is one line and an exit code."""
    debug = "--debug" in sys.argv
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except AutocompressError as error:
        _fail(error, error.exit_code, debug)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("autocompress: interrupted", err=True)
        sys.exit(130)
    except Exception as error:
        format_message = getattr(error, "format_message", None)
        if format_message is not None:  # typer's own usage errors
            _fail(UsageError(one_line(format_message())), getattr(error, "exit_code", 2), debug)
        _fail(error, 1, debug)


def _fail(error: Exception, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    typer.echo(f"autocompress: {_message(error)}", err=True)
    sys.exit(code)


def _message(error: Exception) -> str:
    """In one line; of an error that is not ours what is known to help, and how to see more."""
    said = one_line(error, 2000)
    if isinstance(error, AutocompressError):
        return said
    from autocompress.compute.starting import fix_of

    said = f"{type(error).__name__}: {said}"
    fix = fix_of(said)
    return f"{said}{f'; {fix}' if fix else ''} (--debug shows where)"


def _ask(question: str, answers: Sequence[str]) -> int:
    """The number of an answer, from 0; where there is only one, nothing is asked."""
    if len(answers) == 1:
        return 0
    _say(question)
    for number, answer in enumerate(answers, 1):
        _say(f"  {number}  {one_line(answer, 200)}")
    while True:
        given = typer.prompt("Number", default=1, type=int, err=True)
        if 1 <= given <= len(answers):
            return int(given) - 1
        _say(f"a number from 1 to {len(answers)}")


def _take_first(question: str, answers: Sequence[str]) -> int:
    """The likeliest answer, said aloud with how many others there are."""
    others = f" (1 of {len(answers)})" if len(answers) > 1 else ""
    _say(f"{question} {one_line(answers[0], 200)}{others}")
    return 0


def _say(text: str) -> None:
    typer.echo(text, err=True)


@contextmanager
def _printing(json_lines: bool, as_json: bool = False) -> "Iterator[tuple[Console, list[JsonLines]]]":
    """The console for people, and who prints events. Where JSON is printed, all else of this process goes to stderr."""
    from rich.console import Console

    from autocompress.report.json_lines import JsonLines

    lines = [JsonLines(sys.stdout)] if json_lines else []
    with redirect_stdout(sys.stderr) if json_lines or as_json else nullcontext():
        yield Console(), lines


def _print(value: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(value, indent=1))
        return
    for line in _lines(value):
        typer.echo(line)


def _lines(value: dict[str, Any], indent: str = "") -> list[str]:
    """A nested mapping as aligned, printable lines."""
    lines: list[str] = []
    width = max((len(str(k)) for k, v in value.items() if not isinstance(v, dict)), default=0)
    for key, item in value.items():
        if isinstance(item, dict):
            lines += [f"{indent}{one_line(key)}", *_lines(item, indent + "  ")] if item else []
        elif isinstance(item, (list, tuple)):
            shown = [one_line(i) for i in item]
            if sum(map(len, shown)) < 80:
                lines.append(f"{indent}{one_line(key):{width}}  {', '.join(shown) or '-'}")
            else:
                lines += [f"{indent}{one_line(key)}", *(f"{indent}  {i}" for i in shown)]
        else:
            lines.append(
                f"{indent}{one_line(key):{width}}  {one_line(f'{item:.6g}' if isinstance(item, float) else item)}"
            )
    return lines
