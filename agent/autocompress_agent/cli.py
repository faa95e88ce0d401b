"""``autocompress-agent``: serve one device until it is interrupted."""

import argparse
import fcntl
import ipaddress
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PORT = 8790
FILES_OF_A_JOB = 3
FOLDER = "autocompress-agent-"


def main() -> None:
    options = _parser().parse_args()
    try:
        _check_limits(options)
        token = _token(options.token_file)
        names = _names(options.host, options.name)
        _check_address(options)
    except (ValueError, OSError) as error:
        sys.exit(f"autocompress-agent: {error}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that its folder goes
    with suppress(KeyboardInterrupt):
        _serve(options, token, names)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="autocompress-agent",
        description="Time ONNX files on this machine for searches of autocompress elsewhere.",
    )
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument(
        "--token-file", type=Path, required=True, help="what clients have to show; made when there is none"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at; another than loopback needs TLS")
    parser.add_argument("--name", action="append", default=[], help="by which clients call it, beside the address")
    parser.add_argument("--certificate", type=Path, help="for TLS, a .pem file")
    parser.add_argument("--key", type=Path, help="of the certificate, a .pem file")
    parser.add_argument("--max-file", type=int, default=512, metavar="MB")
    parser.add_argument("--max-files", type=int, default=2048, metavar="MB", help="of all files that are kept")
    parser.add_argument("--max-memory", type=int, metavar="MB", help="of one job; half of the machine's if left out")
    parser.add_argument("--max-seconds", type=float, default=120.0, help="of one job")
    return parser


def _check_limits(options: argparse.Namespace) -> None:
    for name in ("max_file", "max_files", "max_memory", "max_seconds"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, not {value}")
    if options.max_files < FILES_OF_A_JOB * options.max_file:
        raise ValueError(
            f"--max-files must be {FILES_OF_A_JOB} times --max-file at least: a comparison takes two files and inputs"
        )
    for path in (options.certificate, options.key):
        if path is not None and not path.is_file():
            raise ValueError(f"there is no file {path}")


def _token(path: Path) -> str:
    """What is in the file, which nobody else may read; a new one where there is none."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        print(f"a new token is in {path}: clients need a copy of it", flush=True)
    if path.stat().st_mode & 0o077:
        raise ValueError(f"others may read {path}: `chmod 600 {path}`")
    token = path.read_text().strip()
    if not token.isascii() or not token or token.split() != [token]:
        raise ValueError(f"{path} holds no token: delete it, and a new one is made")
    return token


def _names(host: str, names: list[str]) -> frozenset[str]:
    """Those of a Host header that are answered."""
    found = {
        *(name.lower() for name in names),
        host.lower(),
        *(("localhost", "127.0.0.1", "::1") if _is_loopback(host) else ()),
    }
    return frozenset(found - {"0.0.0.0", "::"})


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_address(options: argparse.Namespace) -> None:
    if options.host in ("0.0.0.0", "::") and not options.name:
        raise ValueError("listening at all addresses, say by which of them it is called: --name ADDRESS")
    if (options.certificate is None) != (options.key is None):
        raise ValueError("TLS takes both --certificate and --key")
    if not _is_loopback(options.host) and options.certificate is None:
        raise ValueError(
            f"{options.host} can be reached from elsewhere, where others would read the token: give --certificate and "
            "--key, or listen at loopback and use a tunnel: "
            f"ssh -L {options.port}:127.0.0.1:{options.port} THIS_MACHINE"
        )


def _remove_what_killed_ones_left() -> None:
    """The folders of agents of this user that run no more: each holds a lock on its own."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with _locked(folder):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """While open, nobody else can have it so. Raises OSError where somebody has."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def _serve(options: argparse.Namespace, token: str, names: frozenset[str]) -> None:
    import onnxruntime
    import uvicorn

    from autocompress_agent.child import Children
    from autocompress_agent.files import Files
    from autocompress_agent.limits import MEGABYTE, Limits
    from autocompress_agent.machine.memory import memory_bytes
    from autocompress_agent.server import Agent

    memory = options.max_memory * MEGABYTE if options.max_memory else memory_bytes() // 2
    limits = Limits(options.max_file * MEGABYTE, options.max_files * MEGABYTE, options.max_seconds, memory)
    scheme = "https" if options.certificate else "http"
    _remove_what_killed_ones_left()
    with tempfile.TemporaryDirectory(prefix=FOLDER) as folder, _locked(Path(folder)):
        files, empty = Path(folder) / "files", Path(folder) / "empty"
        files.mkdir(mode=0o700)
        empty.mkdir()
        agent = Agent(Files(files, limits), Children(limits, empty), limits, token, names)
        print(f"onnxruntime {onnxruntime.__version__} at {scheme}://{options.host}:{options.port}", flush=True)
        uvicorn.run(
            agent.app,
            host=options.host,
            port=options.port,
            ssl_certfile=options.certificate,
            ssl_keyfile=options.key,
            log_level="warning",
            server_header=False,
        )
