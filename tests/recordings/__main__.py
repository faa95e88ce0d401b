"""Record anew, after a change of behaviour that is meant: ``python -m tests.recordings [scenario ...]``."""

import argparse
import tempfile
from pathlib import Path

from . import fixtures
from .harness import play
from .scenarios import SCENARIOS


def main() -> None:
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    parser = argparse.ArgumentParser(prog="python -m tests.recordings", description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"all of: {', '.join(by_name)}")
    parser.add_argument("--to", type=Path, default=fixtures.FOLDER, help="the folder to write to")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.scenario if name not in by_name]:
        parser.error(f"no such scenario: {', '.join(unknown)}")
    for name in chosen.scenario or by_name:
        with tempfile.TemporaryDirectory() as scratch:
            text = fixtures.text_of(play(by_name[name], Path(scratch) / "run"))
        path = chosen.to / fixtures.path_of(name).name
        unchanged = path.exists() and path.read_text("utf-8") == text
        path.write_text(text, "utf-8")
        print(f"{name}: {'unchanged' if unchanged else 'written'}")


if __name__ == "__main__":
    main()
