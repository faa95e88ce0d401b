"""Pages are made without the library that draws, which is large and the same every time."""

import pytest


@pytest.fixture(autouse=True)
def _small_plotly(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_plotly" not in request.fixturenames:
        monkeypatch.setattr("autocompress.report.page.packed_plotly", lambda: "cGxvdGx5")


@pytest.fixture
def real_plotly() -> None:
    """Asks for the library itself."""
