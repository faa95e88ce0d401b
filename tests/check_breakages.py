"""Whether the suite notices each breakage of ``breakages.toml``: ``python tests/check_breakages.py [name ...]``.

Each is applied alone, to a copy of the repository's files; then its tests run, or with ``--all`` the whole suite up to
the first failure. Before that all these tests run on the copy as it is, where they have to pass. Exit code 1 when a
breakage is not caught, or cannot be checked.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("", "plugins", "search_spaces", "agent")  # that packages of the product lie in
PASSED, FAILED = 0, 1  # exit codes of pytest; any other says that nothing was tested
LIMIT_S = {False: 600, True: 3600}  # for the listed tests, for the whole suite; what hangs is noticed too


@dataclass(frozen=True)
class Breakage:
    """notice: what a user would. old, new: of one line of ``file``. tests: that fail of it."""

    name: str
    notice: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def place(self, root: Path) -> Path:
        """The file to change. Raises LookupError when it does not hold ``old`` once, or a test is not where it says."""
        path = root / self.file
        count = path.read_text("utf-8").count(self.old) if path.exists() else 0
        if count != 1:
            raise LookupError(f"{self.name}: {self.old!r} must occur once in {self.file}, and does {count} times")
        for test in self.tests:
            if not _exists(root, test):
                raise LookupError(f"{self.name}: there is no {test}")
        return path

    @contextmanager
    def applied(self, root: Path) -> Iterator[None]:
        path = self.place(root)
        whole = path.read_text("utf-8")
        path.write_text(whole.replace(self.old, self.new), "utf-8")
        try:
            yield
        finally:
            path.write_text(whole, "utf-8")


def read_breakages(path: Path) -> list[Breakage]:
    """Names are distinct, and each edit stays on its line."""
    found = [Breakage(**{**b, "tests": tuple(b["tests"])}) for b in tomllib.loads(path.read_text("utf-8"))["breakage"]]
    assert len({b.name for b in found}) == len(found), "two breakages have one name"
    assert not any("\n" in text for b in found for text in (b.old, b.new)), "a breakage is one line"
    return found


def _exists(root: Path, test: str) -> bool:
    """test: a file, or a function in it, with or without its parameters."""
    file, _, name = test.partition("::")
    function = rf"^(async )?def {re.escape(name.partition('[')[0])}\(" if name else ""
    return (root / file).exists() and re.search(function, (root / file).read_text("utf-8"), re.MULTILINE) is not None


@contextmanager
def copied() -> Iterator[Path]:
    """The tracked files and those that are not ignored, in a folder of their own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="breakages-") as scratch:
        root = Path(scratch) / "copy"
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file() or (ROOT / name).is_symlink():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name, follow_symlinks=False)
        yield root


def tested(root: Path, tests: Sequence[str], limit_s: float) -> int | None:
    """The exit code of pytest in the copy, None when it did not end in time. The copy's product is what is imported."""
    path = [*(str(root / folder) for folder in FOLDERS), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    process = subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
        return None
    if process.returncode not in (PASSED, FAILED):
        print(said[-2000:], file=sys.stderr)
    return process.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="*", help="only breakages whose name has this in it")
    parser.add_argument("--all", action="store_true", help="run the whole suite for each")
    parser.add_argument("--with", dest="tests", nargs="+", metavar="TEST", help="run these in place of the listed ones")
    parser.add_argument("--list", action="store_true", help="print the breakages and where each stands, run nothing")
    chosen = parser.parse_args()
    breakages = read_breakages(ROOT / "tests" / "breakages.toml")
    breakages = [b for b in breakages if not chosen.name or any(part in b.name for part in chosen.name)]
    for breakage in breakages:
        breakage.place(ROOT)  # before any is tried
        if chosen.list:
            print(f"{breakage.name}: {breakage.file}. {breakage.notice}")
    if chosen.list:
        return
    with copied() as root:
        own = {b.name: [] if chosen.all else chosen.tests or list(b.tests) for b in breakages}
        every = sorted({test for tests in own.values() for test in tests})
        if tested(root, every, LIMIT_S[True]) != PASSED:
            sys.exit("the tests fail as it is: nothing can be said of the breakages")
        missed = 0
        for breakage in breakages:
            with breakage.applied(root):
                code = tested(root, own[breakage.name], LIMIT_S[chosen.all])
            verdict = {PASSED: "NOT CAUGHT", FAILED: "caught", None: "caught (it hangs)"}.get(
                code, f"pytest ended {code}"
            )
            missed += not verdict.startswith("caught")
            print(f"{verdict}: {breakage.name}", flush=True)
    print(f"{len(breakages) - missed} of {len(breakages)} caught")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
