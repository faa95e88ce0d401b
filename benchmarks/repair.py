"""What the repair of a structure before any training is worth, and whether it says which structures train best.

    python benchmarks/repair.py curves TASK --strategies prune_channels --seeds 3
    python benchmarks/repair.py correlation TASK --structures 40 --seconds 600

TASK is my_task.py:factory; several may be given. Both score the modules themselves, in one thread, on --val validation
examples that are spread over the split.

curves: nothing is trained. Every strategy that removes units takes 10 to 90 % of them, each of its strengths alone:
those with the smallest weights (l2) or those that can best be made up for (surgeon). Scored as they are, with the
statistics of batch norms recalibrated alone, and repaired. Each seed draws another half of the training examples, of
which what is calibrated on is taken.

correlation: random structures of random strategies with random parameters, scored unrepaired and repaired, and once
more after --steps optimizer steps with the recipe's default strategy, annealed as in a search. Where --seconds ended it
before there were enough structures, the same command goes on.

Both print a table and write benchmarks/results/repair-<task>.json or repair_ranks-<task>.json.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    modes = parser.add_subparsers(dest="mode", required=True)
    curves, correlation = modes.add_parser("curves"), modes.add_parser("correlation")
    for mode in (curves, correlation):
        mode.add_argument("tasks", nargs="+", metavar="TASK", help="my_task.py:factory")
        mode.add_argument("--val", type=int, default=2000, help="validation examples at most")
    curves.add_argument("--strategies", required=True, help="names, separated by commas; those that apply are used")
    curves.add_argument("--seeds", type=int, default=3)
    correlation.add_argument("--structures", type=int, default=40)
    correlation.add_argument("--seconds", type=float, default=600.0, help="a task, after which no structure is begun")
    correlation.add_argument("--steps", type=int, default=300)
    correlation.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()

    import repair_curves
    import repair_ranks
    import torch

    torch.set_num_threads(1)
    for task in chosen.tasks:
        if chosen.mode == "curves":
            repair_curves.run(task, chosen.strategies.split(","), chosen.seeds, chosen.val)
        else:
            repair_ranks.run(task, chosen.structures, chosen.seconds, chosen.steps, chosen.val, chosen.seed)


if __name__ == "__main__":
    main()
