"""The benchmark's models by the names that the lab gives them."""

from torch import nn

from article import Article
from edgevit import VARIANTS, EdgeViT


def create_model(name: str, num_classes: int, size: int, drop_path: float = 0.0) -> nn.Module:
    if name == "article":
        return Article(num_classes, size)
    return EdgeViT(**VARIANTS[name], num_classes=num_classes, drop_path=drop_path)
