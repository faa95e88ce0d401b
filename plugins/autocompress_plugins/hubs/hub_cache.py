"""What lies in the cache of the Hugging Face Hub on this machine, which transformers, datasets and timm share."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from warnings import catch_warnings

from autocompress.errors import UsageError, one_line

WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
MODEL_FILES = ("*.json", "*.txt", "*.model", *WEIGHTS_FILES, "model-*.safetensors")


def require(hub: str, *modules: str) -> None:
    """Raises UsageError when a module that a hub needs is not installed, or does not import."""
    if missing := [module for module in modules if find_spec(module) is None]:
        raise UsageError(f"{hub}: needs {' and '.join(missing)}: pip install 'autocompress[{hub}]'")
    for module in modules:
        try:
            with catch_warnings(action="ignore"):
                import_module(module)
        except Exception as error:  # of other people's code, such as a torchvision that was built for another torch
            cause = f"{type(error).__name__}: {one_line(error, 100)}"
            raise UsageError(
                f"{hub}: needs {module}, which does not import ({cause}): install the one for your torch"
            ) from error


def snapshot(name: str, what: str, repository: str = "model", wanted: Sequence[str] = MODEL_FILES) -> Path:
    """The folder of what the hub calls ``name``: from the cache, else downloaded into it where there is a network.

    what: it is, for a user. wanted: patterns of the files. Raises UsageError.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    if (found := cached_snapshot(name, repository, wanted)) is not None:
        return found
    try:
        return Path(snapshot_download(name, repo_type=repository, allow_patterns=list(wanted)))
    except HFValidationError as error:
        raise UsageError(f"there is no {what} {name!r}: give a folder, or a name as owner/name") from error
    except RepositoryNotFoundError as error:
        raise UsageError(
            f"the Hugging Face Hub has no {what} {name!r}: give a folder, or a name as owner/name"
        ) from error
    except Exception as error:  # no network, in one of many ways
        option = "" if repository == "model" else f" --repo-type {repository}"
        raise UsageError(
            f"the {what} {name!r} is neither a folder nor in the cache of Hugging Face, and the hub cannot be reached "
            f"({one_line(error, 60)}): run `hf download {name}{option}` where there is a network, and give its folder"
        ) from error


def cached_snapshot(name: str, repository: str = "model", wanted: Sequence[str] = MODEL_FILES) -> Path | None:
    """The folder of what the hub calls ``name`` where the cache has all of it that is wanted, of a model the weights
    too; None where it has not. Nothing is downloaded.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        options = {"local_files_only": True, "allow_patterns": list(wanted)}
        found = Path(snapshot_download(name, repo_type=repository, **options))
    except (OSError, HFValidationError):  # it is not in the cache, or no name
        return None
    return found if repository != "model" or weights_in(found) else None


def weights_in(folder: Path) -> list[Path]:
    """The files with weights of a saved model; none where it has none."""
    sharded = sorted(folder.glob("model-*.safetensors"))
    return sharded or [folder / name for name in WEIGHTS_FILES if (folder / name).is_file()][:1]


def cached_models() -> Iterator[Path]:
    """The folders of the models in the cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return
    for repository in sorted(repositories, key=lambda found: found.repo_id):
        if repository.repo_type == "model" and repository.revisions:
            yield max(repository.revisions, key=lambda revision: revision.last_modified).snapshot_path
