"""Each breakage stands where its list says, so that it can be tried. ``tests/check_breakages.py`` tries them."""

import pytest

from tests.check_breakages import ROOT, Breakage, read_breakages


@pytest.mark.parametrize("breakage", read_breakages(ROOT / "tests" / "breakages.toml"), ids=lambda b: b.name)
def test_a_breakage_and_its_tests_are_where_the_list_says(breakage: Breakage) -> None:
    assert breakage.tests
    breakage.place(ROOT)
