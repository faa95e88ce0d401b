"""Starting an agent: its token, where it listens, and what it refuses to begin with."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from autocompress.errors import UsageError
from autocompress.measure import DeviceLost, check_place, device_kind

from .conftest import REPOSITORY, STARTS_WITHIN_S, Served, free_port


def refused(folder: Path, *options: str) -> str:
    """What an agent says that does not start."""
    ended = subprocess.run(
        [sys.executable, "-m", "autocompress_agent", "--port", str(free_port()), *options],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "agent")},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=STARTS_WITHIN_S,
        check=False,
    )
    assert ended.returncode, ended.stdout
    (line,) = ended.stderr.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "192.0.2.7"], "ssh -L"),
        (["--host", "0.0.0.0", "--name", "board"], "--certificate"),
        (["--host", "0.0.0.0"], "--name"),
        (["--certificate", "c.pem"], "c.pem"),
        (["--max-file", "0"], "above 0"),
        (["--max-file", "8", "--max-files", "9"], "3 times"),
    ],
)
def test_where_others_could_read_the_token_it_wants_tls(tmp_path: Path, options: list[str], said: str):
    assert said in refused(tmp_path, "--token-file", "token", *options)


def test_a_token_that_others_may_read_is_none(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("open\n")
    token.chmod(0o644)
    assert "chmod 600" in refused(tmp_path, "--token-file", "token")
    token.chmod(0o600)
    for content in ("", "two words\n"):
        token.write_text(content)
        assert "holds no token" in refused(tmp_path, "--token-file", "token")


def test_a_token_is_made_where_there_is_none_and_nobody_else_may_read_it(tmp_path: Path):
    assert "--name" in refused(tmp_path, "--token-file", "token", "--host", "0.0.0.0")
    token = tmp_path / "token"
    assert token.stat().st_mode & 0o077 == 0
    assert len(token.read_text().strip()) >= 32


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Of localhost, by itself, and its key."""
    made = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(made[0]), "-keyout", str(made[1])],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


def test_with_tls_the_certificate_is_checked(serve: Callable[..., Served], certificate: tuple[Path, Path]):
    agent = serve("--certificate", str(certificate[0]), "--key", str(certificate[1]))
    secure = {"device": f"https://127.0.0.1:{agent.port}"}
    profile = agent.profile.model_copy(update={**secure, "ca_file": str(certificate[0])})
    check_place(profile)
    assert device_kind(profile)
    with pytest.raises(DeviceLost, match="certificate"):
        device_kind(agent.profile.model_copy(update=secure))
    with pytest.raises(UsageError, match="curl"):
        check_place(agent.profile)  # without TLS


def test_it_needs_nothing_of_autocompress_and_no_torch():
    loads = "import sys, autocompress_agent.server, autocompress_agent.jobs, autocompress_agent.cli; "
    shows = "print([m for m in sys.modules if m.partition('.')[0] in ('torch', 'autocompress', 'onnx')])"
    said = subprocess.run(
        [sys.executable, "-c", loads + shows],
        env={"PYTHONPATH": str(REPOSITORY / "agent")}, cwd="/", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.strip() == "[]"


def test_its_wheel_has_the_files_that_time_here(tmp_path: Path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=REPOSITORY / "agent", check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        for ours in (REPOSITORY / "autocompress" / "machine").glob("*.py"):
            assert files.read(f"autocompress_agent/machine/{ours.name}") == ours.read_bytes()
