"""Devices that a profile names as a pool."""

from pathlib import Path

import pytest

from autocompress.errors import UsageError
from autocompress.profile import HardwareProfile, load_profile

BOARDS = """
[boards]
devices = ["http://127.0.0.1:8790", "http://127.0.0.1:8791"]
token_file = "~/boards.token"
[one]
devices = ["https://one:1"]
"""


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "autocompress").mkdir()
    return tmp_path / "autocompress" / "pools.toml"


def profile(folder: Path, lines: str) -> HardwareProfile:
    (folder / "board.toml").write_text(f'name = "board"\n{lines}\n')
    return load_profile(str(folder / "board.toml"))


def test_a_profile_has_the_devices_and_the_token_of_its_pool(config: Path, tmp_path: Path) -> None:
    config.write_text(BOARDS)
    found = profile(tmp_path, 'device = "boards"')
    assert found.agents == ("http://127.0.0.1:8790", "http://127.0.0.1:8791")
    assert found.token_file == "~/boards.token"
    assert profile(tmp_path, 'device = "boards"\ntoken_file = "mine"').token_file == "mine"
    assert profile(tmp_path, 'device = "one"\ntoken_file = "mine"').agents == ("https://one:1",)
    recorded = found.model_dump(mode="json")
    config.unlink()
    assert HardwareProfile.model_validate(recorded) == found, "a run does not depend on the file"


@pytest.mark.parametrize(
    ("pools", "device", "said"),
    [
        (None, "boards", r"there is no pool boards: .*pools\.toml would hold it"),
        (BOARDS, "board", r"pools\.toml: unknown pool 'board': did you mean 'boards'\?"),
        (BOARDS, "one", "an agent wants a token"),
        ("[boards]\ndevices = []", "boards", "boards.devices"),
        ("[boards]\ndevice = 'x'", "boards", "boards.devices: Field required"),
        ("[boards", "boards", r"pools\.toml is not TOML"),
        ("[boards]\ndevices = ['http://far:1']\ntoken_file = 't'", "boards", "others would read the token"),
    ],
    ids=["no file", "another name", "no token", "no device", "misspelt", "no TOML", "in the clear"],
)
def test_a_pool_that_is_not_right_is_one_line(
    pools: str | None, device: str, said: str, config: Path, tmp_path: Path
) -> None:
    if pools is not None:
        config.write_text(pools)
    with pytest.raises(UsageError, match=said) as caught:
        profile(tmp_path, f'device = "{device}"')
    assert "\n" not in str(caught.value)
