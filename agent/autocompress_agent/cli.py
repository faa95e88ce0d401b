"""``autocompress-agent``: serve one device until it is interrupted."""

import argparse
import ipaddress
import os
import secrets
import sys
import tempfile
from pathlib import Path

PORT = 8790


def main() -> None:
    options = _parser().parse_args()
    try:
        token = _token(options.token_file)
        names = _names(options.host, options.name)
        _check_address(options)
    except ValueError as error:
        sys.exit(f"autocompress-agent: {error}")
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
    found = {*names, host, *(("localhost", "127.0.0.1", "::1") if _is_loopback(host) else ())}
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
    with tempfile.TemporaryDirectory(prefix="autocompress-agent-") as folder:
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
