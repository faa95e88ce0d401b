"""Whose a folder is, also one that an earlier version made."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from autocompress.errors import UsageError
from autocompress.storage.folder import RunFolder
from autocompress.storage.ownership import APPLIED, RUN, own_or_free, put_mark, refuse_strangers

EARLIER = Path(__file__).parent.parent / "fixtures" / "finished_run"


def claimed(root: Path) -> bool:
    folder = RunFolder(root)
    try:
        folder.claim()
    except UsageError:
        return False
    folder.release()
    return True


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    return shutil.copytree(EARLIER, tmp_path / "earlier")


def test_run_of_an_earlier_version_is_ours(earlier: Path):
    assert claimed(earlier)
    (earlier / RUN).unlink()
    (earlier / "front.json").unlink()
    assert claimed(earlier), "a killed search has its study alone"
    (earlier / RUN).unlink()
    shutil.copy(EARLIER / "front.json", earlier)
    (earlier / "study.db").unlink()
    assert claimed(earlier), "what somebody keeps of a run may be its front alone"


def test_study_is_known_also_in_the_middle_of_a_transaction_that_was_killed(earlier: Path):
    (earlier / "front.json").unlink()
    connection = sqlite3.connect(earlier / "study.db", isolation_level=None)
    connection.execute("pragma cache_size = 1")
    connection.execute("begin immediate")
    connection.execute("insert into studies (study_name) select hex(randomblob(400)) from studies")
    killed = shutil.copytree(earlier, earlier.with_name("killed"))
    connection.close()
    assert claimed(killed)


@pytest.mark.parametrize("file", ["study.db", "front.json", ".lock"])
def test_file_of_another_program_under_one_of_our_names_makes_no_folder_ours(file: str, tmp_path: Path):
    root = tmp_path / "theirs"
    root.mkdir()
    if file == "study.db":
        other = sqlite3.connect(root / file)
        other.execute("create table studies (study_name text)")
        other.execute("insert into studies values ('their own')")
        other.commit()
        other.close()
    else:
        (root / file).write_text('{"schema": 1}')
    before = (root / file).read_bytes()
    assert not claimed(root)
    assert [path.name for path in root.iterdir()] == [file]
    assert (root / file).read_bytes() == before


def test_run_and_applied_folders_are_told_apart(tmp_path: Path):
    put_mark(tmp_path / "applied", APPLIED)
    with pytest.raises(UsageError, match="holds what this command did not make"):
        refuse_strangers(tmp_path / "applied", RUN)
    refuse_strangers(tmp_path / "applied", APPLIED)
    put_mark(tmp_path / "run", RUN)
    with pytest.raises(UsageError, match="holds what this command did not make"):
        refuse_strangers(tmp_path / "run", APPLIED)


def test_first_folder_that_is_ours_or_free_is_taken(tmp_path: Path, earlier: Path):
    wanted = tmp_path / "digits"
    assert own_or_free(wanted, RUN) == wanted
    wanted.mkdir()
    assert own_or_free(wanted, RUN) == wanted, "it holds nothing"
    (wanted / "scan.png").write_text("")
    assert own_or_free(wanted, RUN) == tmp_path / "digits-2"
    (tmp_path / "digits-2").write_text("a file")
    (tmp_path / "digits-3").symlink_to(tmp_path / "nowhere")
    assert own_or_free(wanted, RUN) == tmp_path / "digits-4"
    put_mark(tmp_path / "digits-4", RUN)
    assert own_or_free(wanted, RUN) == tmp_path / "digits-4", "the same command again resumes"
    assert own_or_free(earlier, RUN) == earlier


def test_folder_with_nothing_but_what_a_leftover_process_locks_counts_as_empty(tmp_path: Path):
    root = tmp_path / "run"
    root.mkdir()
    for name in (".machine.lock", ".turnstile.lock"):
        (root / name).touch()
        assert own_or_free(root, RUN) == root
    assert claimed(root)
    folder = RunFolder(root)
    (root / RUN).unlink()
    (root / ".lock").unlink()
    folder.claim()
    folder.discard()
    folder.release()
    assert list(root.iterdir()) == [], "as empty as it counted"
    (root / ".machine.lock").write_text("of another program")
    assert not claimed(root)
