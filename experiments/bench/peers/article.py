"""The article's single-stage model in PyTorch, its batch-N form, with the article's parameter names."""

import torch.nn.functional as F
from torch import Tensor, nn

from edgevit import depthwise, to_picture, to_tokens

DIM = 48
WINDOW = 4


def norm_picture(x: Tensor) -> Tensor:
    """Layer norm over all of an image at once, without parameters."""
    return F.layer_norm(x, x.shape[1:])


class Residual(nn.Module):
    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return x + self.module(x)


class DownSample(nn.Module):
    def __init__(self):
        super().__init__()
        self.downsample = nn.Conv2d(3, DIM, 4, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        return norm_picture(self.downsample(x))


class PatchEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = depthwise(DIM, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.embed(x)


class LocalAgg(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(DIM, DIM, 1)
        self.conv2 = depthwise(DIM, 3)
        self.conv3 = nn.Conv2d(DIM, DIM, 1)
        self.norm1 = nn.BatchNorm2d(DIM)
        self.norm2 = nn.BatchNorm2d(DIM)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.norm2(self.conv2(self.conv1(self.norm1(x)))))


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(DIM, 4 * DIM)
        self.fc2 = nn.Linear(4 * DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        return to_picture(self.fc2(F.gelu(self.fc1(to_tokens(x)))), *x.shape[2:])


class GlobalSparseAttn(nn.Module):
    """One head, and no scale: the article stores 1 and never divides."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM)
        self.LocalProp = nn.ConvTranspose2d(DIM, DIM, WINDOW, stride=WINDOW, groups=DIM)
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        delegates = to_tokens(x[:, :, ::WINDOW, ::WINDOW])
        q, k, v = self.qkv(delegates).unsqueeze(1).chunk(3, dim=-1)
        attended = F.scaled_dot_product_attention(q, k, v, scale=1.0).squeeze(1)
        x = norm_picture(self.LocalProp(to_picture(attended, height // WINDOW, width // WINDOW)))
        return to_picture(self.proj(to_tokens(x)), height, width)


class Article(nn.Module):
    """[b, 3, 224, 224] → logits [b, classes]."""

    def __init__(self, num_classes: int, size: int = 224):
        super().__init__()
        self.downsample1 = DownSample()
        self.patchembeding1 = PatchEmbedding()
        self.residual_add1 = Residual(LocalAgg())
        self.residual_add1_1 = Residual(FeedForward())
        self.patchembeding2 = PatchEmbedding()
        self.residual_add2 = Residual(GlobalSparseAttn())
        self.fc = nn.Linear(DIM * (size // 4) ** 2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        for layer in list(self.children())[:-1]:
            x = layer(x)
        return self.fc(x.flatten(1))
