"""State dicts of three layouts, as PyTorch writes them, with the logits that their own code computes in float64; and the way back.

    state_dicts.py write FOLDER [LAYOUT ...]   FOLDER/LAYOUT.pth, and the images and logits in FOLDER/LAYOUT.expected.pth
    state_dicts.py compare THEIRS OURS NAMES   exit 1 where a tensor of OURS, read with weights_only, has other bytes than in THEIRS
"""

import json
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

CLASSES = 7


def filled(model: nn.Module) -> nn.Module:
    """With running statistics and norms as a training leaves them."""
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point():
            tensor.add_(torch.randn_like(tensor) * 0.05)
        else:
            tensor.fill_(1000)
    return model.eval()


def official() -> tuple[nn.Module, int, object]:
    from models import create_model

    model = filled(create_model("edgevit-xxs", CLASSES, 224))
    return model, 224, model.state_dict()


def easycv() -> tuple[nn.Module, int, object]:
    model, size, state = official()
    for name, module in model.named_modules():
        if name.endswith(("SelfAttn.norm1", "SelfAttn.norm2")):
            module.eps = 1e-8
    renamed = [(("head.fc_cls." + name[5:]) if name.startswith("head.") else f"backbone.{name}", value) for name, value in state.items()]
    return model, size, {"meta": {"epoch": 300, "mmcv_version": "1.7.0"}, "state_dict": OrderedDict(renamed)}


def birder() -> tuple[nn.Module, int, object]:
    from birder.model_registry import registry

    model = filled(registry.net_factory("edgevit_xxs", CLASSES, size=(256, 256)))
    return model, 256, {"state": model.state_dict()}


LAYOUTS = {"official": official, "easycv": easycv, "birder": birder}


def write(folder: Path, layouts: list[str]) -> None:
    for name in layouts:
        model, size, saved = LAYOUTS[name]()
        torch.save(saved, folder / f"{name}.pth")
        images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            logits = model.double()(images.double())
        torch.save({"images": images, "logits": logits}, folder / f"{name}.expected.pth")


def state_of(path: str) -> dict[str, Tensor]:
    saved = torch.load(path, weights_only=True)
    return saved.get("state_dict", saved.get("state", saved))


def compare(theirs: str, ours: str, names: str) -> int:
    """`names`: the official name of each of their keys, as JSON."""
    left, right, mapped = state_of(theirs), state_of(ours), json.loads(names)
    wrong = [
        key
        for key, value in left.items()
        if mapped[key] not in right
        or value.dtype != right[mapped[key]].dtype
        or value.contiguous().flatten().numpy().tobytes() != right[mapped[key]].contiguous().flatten().numpy().tobytes()
    ]
    added = [key for key in right if key not in mapped.values() and right[key].any()]  # a bias of zeros says nothing
    print(f"{len(left)} tensors, other bytes in {wrong or 'none'}, added {added or 'none'}")
    return 1 if wrong or added else 0


if __name__ == "__main__":
    what, first, *rest = sys.argv[1:]
    if what == "write":
        write(Path(first), rest or list(LAYOUTS))
    else:
        sys.exit(compare(first, *rest))
