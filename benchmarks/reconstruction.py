"""What reconstructing a repaired structure is worth, by the seconds that it has.

    python benchmarks/reconstruction.py TASK --structure JSON [--structure JSON ...]

TASK is my_task.py:factory, JSON is like '{"student": {"width": 0.6, "dropped": 1, "weights": "inherited"}}'. The
structures are repaired, then reconstructed as in ``search --no-train``, and scored as modules, in one thread, on --val
validation examples. Prints a table and writes benchmarks/results/reconstruction-<task>.json. What else the machine does
changes how many steps there is time for.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", metavar="TASK", help="my_task.py:factory")
    parser.add_argument("--structure", action="append", required=True, help="JSON: strategy -> its parameters")
    parser.add_argument("--seconds", type=float, nargs="+", default=[7.0, 20.0])
    parser.add_argument("--val", type=int, default=2000, help="validation examples at most")
    chosen = parser.parse_args()

    import results
    import torch
    from opened import module_score

    from autocompress.candidate.arithmetic import Arithmetic
    from autocompress.candidate.repair.reconstruction import RECONSTRUCTION, reconstructed
    from autocompress.candidate.repair.repaired import repaired
    from autocompress.candidate.request import TrainRequest
    from autocompress.compute.in_process import opened_in_process
    from autocompress.plugin.loader import load_plugins
    from autocompress.profile import load_profile
    from autocompress.recipe import Recipe, Step
    from autocompress.storage.folder import RunFolder
    from autocompress.task_source import load_task

    torch.set_num_threads(1)
    recipes = [
        Recipe(tuple(Step.of(name, **params) for name, params in json.loads(structure).items()))
        for structure in chosen.structure
    ]
    wanted = sorted({step.strategy for recipe in recipes for step in recipe.steps})
    task, rows = load_task(chosen.task), []
    with tempfile.TemporaryDirectory() as folder:
        here = opened_in_process(
            task, load_profile("cpu"), load_plugins(), RunFolder(Path(folder)), wanted, score_on=chosen.val
        )
        opened = here.computation.opened
        reference = module_score(opened, opened.context.model)
        for recipe in recipes:
            model, _, key = repaired(opened, recipe, None)
            if key is None:
                parser.error(f"nothing of {recipe} is repaired")
            row: dict[str, Any] = {"recipe": str(recipe), "repaired": module_score(opened, model)}
            for seconds in chosen.seconds:
                nearer, _, facts = reconstructed(
                    opened, TrainRequest(recipe, Arithmetic(), limit_s=seconds), model, key
                )
                row[f"{seconds:g} s"] = module_score(opened, nearer)
                row[f"examples in {seconds:g} s"] = facts.get(RECONSTRUCTION, 0)
            rows.append(row)
            print(row, flush=True)
    results.write(f"reconstruction-{task.name}", {"task": task.name, "reference": reference, "rows": rows})


if __name__ == "__main__":
    main()
