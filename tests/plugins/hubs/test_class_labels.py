"""Names of the data's classes become numbers of the model's."""

import pytest

from autocompress.errors import UsageError
from autocompress_plugins.hubs.class_labels import ClassNames


@pytest.mark.parametrize(
    ("model", "data", "numbers", "shown"),
    [
        (["neg", "pos"], ["pos", "neg"], {"pos": 1, "neg": 0}, ["neg", "pos"]),
        (["Not Spam", "Spam"], ["not_spam", "spam"], {"not_spam": 0, "spam": 1}, ["Not Spam", "Spam"]),
        (["a", "b", "c"], ["b"], {"b": 1}, ["a", "b", "c"]),
        (["LABEL_0", "LABEL_1"], ["ham", "spam"], {"ham": 0, "spam": 1}, ["ham", "spam"]),
        (["zero", "one", "two"], ["0", "2"], {"0": 0, "2": 2}, ["zero", "one", "two"]),
    ],
)
def test_a_class_has_the_number_that_the_model_gives_it(
    model: list[str], data: list[str], numbers: dict[str, int], shown: list[str]
) -> None:
    names = ClassNames(model, data)
    assert (names.numbers(), names.shown) == (numbers, shown)


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        (["neg", "pos"], ["bad", "fair", "good"], r"have 3 classes \(bad, fair, good\) and the model has 2 classes"),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ["ham", "spam"], "have 2 classes .* the model has 3 classes"),
        (["neg", "pos"], ["bad", "good"], r"\(bad, good\) are called otherwise than the model's \(neg, pos\)"),
        (["a", "b"], ["0", "7"], r"\(0, 7\) are called otherwise than the model's"),
    ],
)
def test_classes_that_are_not_the_models_are_refused(model: list[str], data: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ClassNames(model, data).numbers()
