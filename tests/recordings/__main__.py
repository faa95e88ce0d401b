"""Record anew, after a change of behaviour that is meant: ``python -m tests.recordings [name ...]``."""

import argparse
import tempfile
from pathlib import Path

from . import fixtures
from .harness import RECORDINGS


def main() -> None:
    by_name = {recording.name: recording for recording in RECORDINGS}
    parser = argparse.ArgumentParser(prog="python -m tests.recordings", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"all of: {', '.join(by_name)}")
    parser.add_argument("--to", type=Path, default=fixtures.FOLDER, help="the folder to write to")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.name if name not in by_name]:
        parser.error(f"no such recording: {', '.join(unknown)}")
    for name in chosen.name or by_name:
        recording = by_name[name]
        with tempfile.TemporaryDirectory() as scratch:
            text = fixtures.text_of(recording.play(recording.scenario, Path(scratch) / "run"))
        path = chosen.to / fixtures.path_of(name).relative_to(fixtures.FOLDER)
        unchanged = path.exists() and path.read_text("utf-8") == text
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        print(f"{name}: {'unchanged' if unchanged else 'written'}")


if __name__ == "__main__":
    main()
