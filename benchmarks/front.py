"""The front of a finished search as a picture.

    python benchmarks/front.py RUN

writes benchmarks/results/front-<task>.json and the picture beside it: score and latency of every file that was scored.
"""

import argparse
from pathlib import Path

import results

from autocompress import load_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="its folder")
    result = load_result(parser.parse_args().run)
    document, chosen = result.document, result.recommended
    rows = [
        {
            "techniques": file.techniques,
            "ms": file.latency_ms.p50,
            "val": file.score.val,
            "on_front": file.on_front,
            "recommended": chosen is not None and file.id == chosen.id,
        }
        for file in result.candidates
    ]
    kept = {key: document[key] for key in ("task", "profile", "metric", "minutes", "budget")}
    results.write(f"front-{document['task']}", {**kept, "reference": result.reference.score.val, "rows": rows})


if __name__ == "__main__":
    main()
