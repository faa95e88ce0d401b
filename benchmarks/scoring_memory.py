"""How much memory the scoring of a file with dense outputs takes.

    python benchmarks/scoring_memory.py [--maps 500] [--metric "mean IoU"] [--whole]

Exports a small U-Net of 21 classes, and scores the file over so many images of 256 x 256 that are made when they are
asked for: their score with its interval, a difference, and chance, in a process of its own. --whole hands the same
metric over as a function of all outputs, for comparison. Prints the seconds and the peak of the resident memory and
writes benchmarks/results/scoring_memory.json.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import results

CLASSES, SIDE = 21, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--maps", type=int, default=500)
    parser.add_argument("--metric", default="mean IoU", help="a name of torchmetrics")
    parser.add_argument("--whole", action="store_true", help="as a function that is given all outputs")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(1) as process:
        path = Path(folder) / "unet.onnx"
        process.apply(write_unet, (path,))
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            found = fresh.apply(scored, (path, chosen.maps, chosen.metric, chosen.whole))
    low, high = found["low"], found["high"]
    chance = "unknown" if found["chance"] is None else f"{found['chance']:.4f}"
    print(f"{found['metric']} {found['score']:.4f} ({low:.4f} to {high:.4f}), {chance} by chance")
    print(f"{found['seconds']:.1f} s, peak {found['peak_mib']:,.0f} MiB of {found['outputs_mib']:,.0f} MiB of outputs")
    results.write("scoring_memory", {**vars(chosen), **found})


def unet() -> Any:
    """Two levels, 21 classes a pixel."""
    import torch
    from torch import nn

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
            self.deep = nn.Sequential(
                nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2)
            )
            self.head = nn.Conv2d(24, CLASSES, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            near = self.down(images)
            return self.head(torch.cat([near, self.deep(near)], 1))

    torch.manual_seed(0)
    return UNet().eval()


def write_unet(path: Path) -> None:
    import torch

    torch.onnx.export(
        unet(), (torch.zeros(1, 3, SIDE, SIDE),), path, dynamo=False, input_names=["input"], output_names=["output"]
    )


def scored(path: Path, maps: int, metric: str, whole: bool) -> dict[str, Any]:
    """In this process, which did nothing before."""
    import torch
    from torch import Tensor

    from autocompress.data import Batch, OutputLayout, ScoredSet, Split
    from autocompress.measure import outputs_of
    from autocompress.nested import Nested
    from autocompress.plugin.loader import load_plugins
    from autocompress.profile import load_profile
    from autocompress.task import Task

    def read(indices: Sequence[int]) -> Batch:
        generators = [torch.Generator().manual_seed(index) for index in indices]
        images = torch.stack([torch.rand(3, SIDE, SIDE, generator=generator) for generator in generators])
        labels = torch.stack([torch.randint(CLASSES, (SIDE, SIDE), generator=generator) for generator in generators])
        return Batch(images, labels)

    profile = load_profile("cpu")
    runtime = load_plugins().runtime(profile.runtime)
    model = unet()
    like = model(read([0, 1]).inputs).detach()
    layout = OutputLayout(like, ("output",), {"output": 0}, "output")
    split = Split("val", maps, read)
    examples = ScoredSet(Task("unet", model, None, None, metric=metric), split, layout)
    if whole:
        examples = ScoredSet(Task("unet", model, None, None, metric=function_of(metric)), split, layout)

    def pieces(of: ScoredSet) -> Iterator[tuple[Mapping[str, Tensor], Nested]]:
        for batch, rows in outputs_of(lambda: runtime.open(path, profile), of.split, 1, layout):
            yield rows, batch.targets

    began = time.perf_counter()
    kept = examples.kept(pieces(examples))
    score = examples.score(kept)
    difference = examples.difference(kept, kept)
    sample = examples.permutable()
    chance = examples.chance(kept) if sample is None else sample.chance(sample.kept(pieces(sample)))
    return {
        "metric": metric,
        "score": score.val,
        "low": score.val_low,
        "high": score.val_high,
        "difference": difference,
        "chance": None if chance is None else chance.score,
        "seconds": time.perf_counter() - began,
        "outputs_mib": maps * like[0].numel() * like.element_size() / 2**20,
        "kept_mib": sum(t.numel() * t.element_size() for t in kept.values()) / 2**20,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def function_of(metric: str) -> Any:
    import torch
    from torchmetrics.classification import MulticlassJaccardIndex

    def mean_iou(outputs: torch.Tensor, targets: torch.Tensor) -> float:
        return float(MulticlassJaccardIndex(num_classes=CLASSES, validate_args=False)(outputs, targets))

    if metric != "mean IoU":
        raise SystemExit("--whole is for mean IoU")
    return mean_iou


if __name__ == "__main__":
    main()
