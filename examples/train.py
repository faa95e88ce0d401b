"""Train an example's model and write its weights beside it: python examples/train.py fashion_vit [--epochs N]."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import fashion_mnist
import torch
from fashion_mobilenet import MobileNet
from fashion_vit import VisionTransformer
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Plan:
    """How one model is trained. ``layout`` is the faster memory format on a CPU."""

    model: type[nn.Module]
    epochs: int
    batch: int
    peak: float  # learning rate
    decay: float  # weight decay of AdamW, on matrices and filters alone
    layout: torch.memory_format = torch.contiguous_format


PLANS = {
    "fashion_vit": Plan(VisionTransformer, epochs=14, batch=64, peak=1e-3, decay=0.05),
    "fashion_mobilenet": Plan(MobileNet, epochs=8, batch=64, peak=4e-3, decay=0.05, layout=torch.channels_last),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train an example's model on Fashion-MNIST and save its weights.")
    parser.add_argument("name", choices=PLANS)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16: faster where the processor has it")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    plan, data = PLANS[arguments.name], fashion_mnist.splits()
    model = plan.model().to(memory_format=plan.layout)
    fit(model, plan, data, arguments.epochs or plan.epochs, arguments.bf16)

    weights = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in model.state_dict().items()}
    save_file(weights, Path(__file__).with_name(f"{arguments.name}.safetensors"))
    model.load_state_dict(weights)  # what a task will load
    print(f"test accuracy {accuracy(model, *data['test']):.2%}")


def fit(model: nn.Module, plan: Plan, data: dict[str, fashion_mnist.Split], epochs: int, bf16: bool) -> None:
    """Train in place by AdamW under one cycle of the learning rate; prints the validation accuracy of each epoch."""
    x, y = data["train"]
    steps = len(x) // plan.batch
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": plan.decay}, {"params": others}], weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.peak, total_steps=epochs * steps, pct_start=0.15)
    start = time.monotonic()
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for batch in torch.randperm(len(x))[: steps * plan.batch].split(plan.batch):
            images = fashion_mnist.flip(shift(x[batch]))
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                outputs = model(images)
            loss = F.cross_entropy(outputs.float(), y[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(
            f"epoch {epoch}/{epochs}: loss {total / steps:.3f}, validation {accuracy(model, *data['val']):.2%}, "
            f"{time.monotonic() - start:.0f} s",
            flush=True,
        )


def shift(x: Tensor, most: int = 1) -> Tensor:
    """Move each image (N, 1, H, W) by up to ``most`` pixels in both directions; what comes in is background."""
    n, _, h, w = x.shape
    background = -fashion_mnist.MEAN / fashion_mnist.STD
    padded = F.pad(x[:, 0], (most,) * 4, value=background)
    rows = torch.randint(2 * most + 1, (n, 1, 1)) + torch.arange(h)[:, None]
    columns = torch.randint(2 * most + 1, (n, 1, 1)) + torch.arange(w)
    return padded[torch.arange(n)[:, None, None], rows, columns][:, None]


@torch.inference_mode()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of images (N, 1, 28, 28) whose class is found, 0..1."""
    model.eval()
    found = sum(int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(500), y.split(500), strict=True))
    return found / len(y)


if __name__ == "__main__":
    main()
