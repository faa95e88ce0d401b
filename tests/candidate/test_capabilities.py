"""Which arithmetic is not even tried: what the processor has no instructions for, and what crashes in torch there."""

import pytest
import torch

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.capabilities import CHANNELS_LAST_CRASHES, Capabilities, capabilities, release

AVX2 = frozenset({"sse4_1", "avx2", "fma3"})
AVX512 = AVX2 | {"avx512_f", "avx512_bw"}
NEWER = CHANNELS_LAST_CRASHES[0], CHANNELS_LAST_CRASHES[1] + 1


@pytest.mark.parametrize(
    ("here", "bfloat16", "channels_last"),
    [
        (Capabilities(AVX2), False, False),
        (Capabilities(AVX2, torch_version=NEWER), False, True),
        (Capabilities(AVX512), False, True),
        (Capabilities(AVX512 | {"avx512_bf16"}), True, True),
        (Capabilities(AVX512 | {"amx_bf16"}), True, True),
        (Capabilities(frozenset({"neon"})), False, True),
        (Capabilities(frozenset({"neon", "bf16"})), True, True),
        (Capabilities(frozenset({"sse4_1"})), False, True),
        (Capabilities(AVX2, gpu=True, gpu_bfloat16=True), True, True),
        (Capabilities(AVX512 | {"amx_bf16"}, gpu=True), False, True),
    ],
    ids=["AVX2", "newer torch", "AVX-512", "its bf16", "AMX", "ARM", "ARM bf16", "SSE", "GPU", "GPU without bf16"],
)
def test_what_a_machine_can_compute(here: Capabilities, bfloat16: bool, channels_last: bool) -> None:
    assert Arithmetic(device=here.device).available(here), "the plainest always can"
    assert Arithmetic(bfloat16=True, device=here.device).available(here) is bfloat16
    assert Arithmetic(channels_last=True, device=here.device).available(here) is channels_last


def test_what_was_found_on_a_machine_with_a_gpu_does_not_hold_without() -> None:
    assert not Arithmetic(device="cuda").available(Capabilities(AVX512))
    assert Arithmetic(device="cpu").available(Capabilities(AVX512, gpu=True))


def test_the_rule_on_channels_last_was_looked_at_with_this_torch() -> None:
    assert release(torch.__version__) <= CHANNELS_LAST_CRASHES, (
        f"torch {torch.__version__} is newer than the one in CHANNELS_LAST_CRASHES (candidate/capabilities.py). On a "
        "processor with AVX2 and without AVX-512, look whether the backward of Conv2d(3, 48, 1, stride=2) for "
        "randn(16, 3, 64, 64), both in channels_last, still ends the process, and whether convolutions of 2 to 6 "
        "channels to 8 to 16 at 32 x 32 still hang there: raise the version if so; else the "
        "rule and this test can go, once pyproject.toml asks for this torch or a newer one"
    )


@pytest.mark.parametrize(("version", "expected"), [("2.13.0+cpu", (2, 13)), ("2.14.0.dev20260101+cu130", (2, 14))])
def test_a_version_is_its_major_and_minor(version: str, expected: tuple[int, int]) -> None:
    assert release(version) == expected


def test_this_machine_is_known() -> None:
    here = capabilities()
    assert here.torch_version == release(torch.__version__)
    assert here.gpu is torch.cuda.is_available()
    assert here.instructions or here.gpu
