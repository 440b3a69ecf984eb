"""EdgeViT in PyTorch, as the official code computes it and with its parameter names; the peer that the benchmark compares with.

Written for speed within what PyTorch documents: fused attention, and tokens as views of the images where memory is
channels_last. `check.py` compares it with the fixtures.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SAMPLE_RATES = (4, 2, 2, 1)
PATCHES = (4, 2, 2, 2)
VARIANTS = {
    "edgevit-xxs": {"depth": (1, 1, 3, 2), "embed_dim": (36, 72, 144, 288), "head_dim": 36},
    "edgevit-xs": {"depth": (1, 1, 3, 1), "embed_dim": (48, 96, 240, 384), "head_dim": 48},
    "edgevit-s": {"depth": (1, 2, 5, 3), "embed_dim": (48, 96, 240, 384), "head_dim": 48},
}


def to_tokens(x: Tensor) -> Tensor:
    """[b, c, h, w] → [b, h·w, c]."""
    return x.flatten(2).transpose(1, 2)


def to_picture(tokens: Tensor, height: int, width: int) -> Tensor:
    """[b, h·w, c] → [b, c, h, w]."""
    return tokens.transpose(1, 2).unflatten(2, (height, width))


def depthwise(dim: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)


class DropPath(nn.Module):
    """Drops a residual branch for single images of a training batch (stochastic depth)."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = 1 - self.rate
        return x * x.new_empty((len(x),) + (1,) * (x.ndim - 1)).bernoulli_(kept).div_(kept)


class Mlp(nn.Sequential):
    """Two layers with GELU between; 1×1 convolutions on images, linear layers on tokens."""

    def __init__(self, dim: int, ratio: int, convolutions: bool):
        layer = (lambda a, b: nn.Conv2d(a, b, 1)) if convolutions else nn.Linear
        super().__init__()
        self.fc1, self.act, self.fc2 = layer(dim, dim * ratio), nn.GELU(), layer(dim * ratio, dim)


class PatchEmbed(nn.Module):
    def __init__(self, patch: int, in_dim: int, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.proj = nn.Conv2d(in_dim, dim, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)
        return to_picture(self.norm(to_tokens(x)), *x.shape[2:])


class LocalAgg(nn.Module):
    def __init__(self, dim: int, mlp_ratio: int = 4, drop_path: float = 0.0):
        super().__init__()
        self.pos_embed = depthwise(dim, 3)
        self.norm1 = nn.BatchNorm2d(dim)
        self.conv1 = nn.Conv2d(dim, dim, 1)
        self.conv2 = nn.Conv2d(dim, dim, 1)
        self.attn = depthwise(dim, 5)
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = Mlp(dim, mlp_ratio, convolutions=True)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_embed(x)
        x = x + self.drop_path(self.conv2(self.attn(self.conv1(self.norm1(x)))))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class GlobalSparseAttn(nn.Module):
    """Attention among the top-left tokens of every window; LocalProp carries the results to the whole windows."""

    def __init__(self, dim: int, num_heads: int, sample_rate: int):
        super().__init__()
        self.num_heads, self.sample_rate = num_heads, sample_rate
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        if sample_rate > 1:
            self.LocalProp = nn.ConvTranspose2d(dim, dim, sample_rate, stride=sample_rate, groups=dim)
            self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """[b, h·w, c] → [b, h·w, c]."""
        rate = self.sample_rate
        if rate > 1:
            x = x.unflatten(1, (height, width))[:, ::rate, ::rate].flatten(1, 2)
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        if rate > 1:
            x = self.norm(to_tokens(self.LocalProp(to_picture(x, height // rate, width // rate))))
        return self.proj(x)


class SelfAttn(nn.Module):
    def __init__(self, dim: int, num_heads: int, sample_rate: int, mlp_ratio: int = 4, drop_path: float = 0.0):
        super().__init__()
        self.pos_embed = depthwise(dim, 3)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = GlobalSparseAttn(dim, num_heads, sample_rate)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, mlp_ratio, convolutions=False)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = to_tokens(x + self.pos_embed(x))
        x = x + self.drop_path(self.attn(self.norm1(x), height, width))
        return to_picture(x + self.drop_path(self.mlp(self.norm2(x))), height, width)


class LGLBlock(nn.Module):
    """Local-Global-Local: local aggregation where there are windows, then sparse attention with local propagation."""

    def __init__(self, dim: int, num_heads: int, sample_rate: int, mlp_ratio: int = 4, drop_path: float = 0.0):
        super().__init__()
        self.LocalAgg = LocalAgg(dim, mlp_ratio, drop_path) if sample_rate > 1 else nn.Identity()
        self.SelfAttn = SelfAttn(dim, num_heads, sample_rate, mlp_ratio, drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return self.SelfAttn(self.LocalAgg(x))


class EdgeViT(nn.Module):
    """[b, 3, h, w] → logits [b, classes]."""

    def __init__(self, depth, embed_dim, head_dim, num_classes, mlp_ratio=4, sr_ratios=SAMPLE_RATES, drop_path=0.0):
        super().__init__()
        dims = (3, *embed_dim)
        rates = iter(torch.linspace(0, drop_path, sum(depth)).tolist())
        for i, patch in enumerate(PATCHES):
            setattr(self, f"patch_embed{i + 1}", PatchEmbed(patch, dims[i], dims[i + 1]))
        for i, (blocks, dim, sample_rate) in enumerate(zip(depth, embed_dim, sr_ratios)):
            stage = [LGLBlock(dim, dim // head_dim, sample_rate, mlp_ratio, next(rates)) for _ in range(blocks)]
            setattr(self, f"blocks{i + 1}", nn.Sequential(*stage))
        self.norm = nn.BatchNorm2d(dims[-1])
        self.head = nn.Linear(dims[-1], num_classes)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(len(PATCHES)):
            x = getattr(self, f"patch_embed{i + 1}")(x)
            x = getattr(self, f"blocks{i + 1}")(x)
        return self.head(self.norm(x).mean((2, 3)))


def initialise(module: nn.Module) -> None:
    """Linear layers from a truncated normal; convolutions keep PyTorch's default."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
