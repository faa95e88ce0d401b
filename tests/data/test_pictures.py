"""Examples as pictures."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from autocompress.data.batch import Batch
from autocompress.data.pictures import PICTURE_SIDE, picture_of


def decoded(inputs: Tensor) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture_of(Batch(inputs, torch.zeros(1))))))


def test_an_image_is_shown_from_its_smallest_value_to_its_largest() -> None:
    image = torch.linspace(-2, 3, 64).reshape(1, 1, 8, 8)
    shown = np.asarray(decoded(image))
    assert shown.shape == (8, 8)
    assert (shown.min(), shown.max()) == (0, 255)
    assert shown[3, 1] == round(255 * 25 / 63)
    colour = torch.zeros(1, 3, 16, 12)
    colour[0, 1] = 1.0
    assert np.asarray(decoded(colour)).shape == (16, 12, 3)
    assert np.asarray(decoded(colour))[0, 0].tolist() == [0, 255, 0]


def test_a_large_image_is_made_smaller() -> None:
    assert decoded(torch.rand(1, 3, 2 * PICTURE_SIDE, PICTURE_SIDE)).size == (PICTURE_SIDE // 2, PICTURE_SIDE)


@pytest.mark.parametrize("inputs", [torch.rand(1, 30), torch.rand(1, 5, 20, 20), torch.zeros(1, 40, 12).long()])
def test_numbers_tokens_and_many_planes_are_no_picture(inputs: Tensor) -> None:
    assert picture_of(Batch(inputs, torch.zeros(1))) == ""
