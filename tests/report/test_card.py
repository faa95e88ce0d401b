"""The card beside a delivered model: what stands on it, and that names on it stay text."""

from pathlib import Path

import pytest

from autocompress.report.card import model_card, write_card
from tests.report.pages import EVIL, LINK, document


def card(**changes: object) -> str:
    found = model_card(document(**changes))
    assert found is not None
    return found


def test_the_card_has_what_was_measured_beside_the_original() -> None:
    said = card()
    assert "| accuracy, validation | 93.12 % (95 % of 92.72 % to 93.72 %) | 93.40 % |" in said
    assert "| accuracy, test | 93.01 % | 93.44 % |" in said
    assert "| p90 of a call, ms | 0.125 | 0.8 |" in said
    assert "| p50 of a call, ms | 0.1125 | 0.72 |" in said
    assert "| speed-up, of the p50 | 6.40 | 1 |" in said, "what the figures above it give"
    assert "| parameters | 696,000 | 696,000 |" in said
    assert "1. prune\\_channels (ratio 0.5)\n2. quantize\\_static (per\\_channel True)" in said


def test_what_was_not_measured_is_said_or_left_out() -> None:
    changed = document()
    chosen = next(c for c in changed["candidates"] if c["id"] == "both")
    chosen["score"]["test"] = chosen["memory_bytes"] = None
    said = model_card(changed)
    assert said is not None
    assert "it was not scored on a test split" in said
    assert "accuracy, test" not in said
    assert "memory" not in said
    assert "None" not in said


def test_the_nearest_is_not_said_to_meet_the_budget() -> None:
    said = card(recommended=None, nearest="slow")
    assert "it is not known to meet the budget: it is the nearest that was found" in said
    assert model_card(document(recommended=None, nearest=None)) is None


@pytest.mark.parametrize("name", [EVIL, LINK, "[free](javascript:alert(1))", "two\n# lines", "a | b"])
def test_names_stay_text(name: str) -> None:
    title = card(task=name).splitlines()[0]
    assert title.startswith("# ")
    assert title.endswith(", compressed")
    for special in "<>[]|":
        assert title.count(special) == title.count(f"\\{special}")


def test_the_card_is_written_anew_where_the_run_has_one(tmp_path: Path) -> None:
    (tmp_path / "recommended").mkdir()
    assert write_card(document(), tmp_path) is None, "an earlier version's run has none"
    with_card = document() | {"delivered": {"recommended/model_card.md": None}}
    path = write_card(with_card, tmp_path)
    assert path is not None
    assert path.read_text() == model_card(with_card)


def test_a_line_whose_figures_an_earlier_version_did_not_write_is_left_out_alone() -> None:
    earlier = {"examples": 550, "worse": 9, "better": 6, "most": [], "by_length": None}
    assert "Of 550 validation examples" not in card(changed=earlier)
    assert card(changed=earlier) == card()
    assert "Of 550 validation examples 9 score worse" in card(changed=earlier | {"sampled_of": None})
