"""What the processor or the GPU has instructions for: an arithmetic without them cannot pay, and is not tried."""

import re
from dataclasses import dataclass

import torch

BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # of Intel and AMD, of Intel, of ARM; emulated without any

# The newest torch (major, minor) whose convolutions in channels-last memory crash, hang or corrupt the heap in
# oneDNN's AVX2 kernels: the backward of Conv2d(3, 48, 1, stride=2), for one. tests/candidate/test_capabilities.py
# says when to look again.
CHANNELS_LAST_CRASHES = 2, 13


@dataclass(frozen=True)
class Capabilities:
    """Of one machine. instructions: of its processor, by the names of torch.cpu.get_capabilities. gpu: whether torch
    sees one. gpu_bfloat16: whether that has bfloat16. torch_version: major, minor.
    """

    instructions: frozenset[str]
    gpu: bool = False
    gpu_bfloat16: bool = False
    torch_version: tuple[int, int] = CHANNELS_LAST_CRASHES

    @property
    def device(self) -> str:
        """Where training is fastest."""
        return "cuda" if self.gpu else "cpu"

    def computes_bfloat16(self, device: str) -> bool:
        """Whether there are instructions for it: emulated, it is many times slower than float32."""
        return self.gpu_bfloat16 if device == "cuda" else bool(BFLOAT16 & self.instructions)

    def trains_channels_last(self, device: str) -> bool:
        """Whether convolutions in channels-last memory can be trusted."""
        in_avx2_kernels = device == "cpu" and "avx2" in self.instructions and "avx512_bw" not in self.instructions
        return not in_avx2_kernels or self.torch_version > CHANNELS_LAST_CRASHES


def capabilities() -> Capabilities:
    """Of this machine, now."""
    gpu = torch.cuda.is_available()
    return Capabilities(
        instructions=_instructions(),
        gpu=gpu,
        gpu_bfloat16=gpu and torch.cuda.is_bf16_supported(including_emulation=False),
        torch_version=release(torch.__version__),
    )


def release(version: str) -> tuple[int, int]:
    """Major and minor of a version such as ``2.13.0+cpu``."""
    major, minor = re.findall(r"\d+", version)[:2]
    return int(major), int(minor)


def _instructions() -> frozenset[str]:
    asked = getattr(torch.cpu, "get_capabilities", None)  # not in every torch
    if asked is not None:
        return frozenset(name for name, there in asked().items() if there is True)
    widest = {"AVX512": {"avx2", "avx512_bw"}, "AVX2": {"avx2"}}
    return frozenset(widest.get(torch.backends.cpu.get_cpu_capability(), ()))
