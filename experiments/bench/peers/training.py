"""PyTorch's training step: AdamW with weight decay on matrices and kernels, not on biases and norms (timm's rule)."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def create_optimizer(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW's fused implementation, the fastest that PyTorch has on the CPU."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def train_step(
    model: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    targets: Tensor,
    autocast: AbstractContextManager,
) -> float:
    """[b, 3, h, w], class probabilities [b, classes] → mean cross-entropy before the step. `autocast` holds for the forward pass, as PyTorch says."""
    with autocast:
        loss = F.cross_entropy(model(images), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()
