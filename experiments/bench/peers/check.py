"""Compares the PyTorch models with fixtures: `python check.py FILE…`. Exit 1 where they differ.

All in float64, as the fixtures were computed: what remains is their rounding to nine digits, so one tolerance serves for all.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import rule
from article import Article
from edgevit import EdgeViT, GlobalSparseAttn, LGLBlock, LocalAgg, PatchEmbed, SelfAttn
from training import create_optimizer

TOLERANCE = 1e-8

# A case's name and its largest relative error.
Result = tuple[str, float]


def relative_error(actual: Tensor | np.ndarray, expected) -> float:
    """Largest difference, relative to the largest expected value."""
    actual, expected = np.asarray(actual, np.float64).ravel(), np.asarray(expected, np.float64).ravel()
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30))


def load(module: nn.Module, prefix: str) -> nn.Module:
    state = {name: torch.from_numpy(rule.tensor(prefix, name, list(value.shape))) for name, value in module.state_dict().items()}
    module.load_state_dict(state)
    return module.eval().double()


def values(prefix: str, name: str, shape: list[int]) -> Tensor:
    return torch.from_numpy(rule.tensor(prefix, name, shape)).double()


def build_block(config: dict) -> nn.Module:
    if config["type"] == "PatchEmbed":
        return PatchEmbed(config["patch"], config["in_chans"], config["embed_dim"])
    if config["type"] == "LocalAgg":
        return LocalAgg(config["dim"], config["mlp_ratio"])
    if config["type"] == "GlobalSparseAttn":
        return GlobalSparseAttn(config["dim"], config["num_heads"], config["sr_ratio"])
    block = {"SelfAttn": SelfAttn, "LGLBlock": LGLBlock}[config["type"]]
    return block(config["dim"], config["num_heads"], config["sr_ratio"], config["mlp_ratio"])


def build_model(config: dict) -> EdgeViT:
    return EdgeViT(**{name: value for name, value in config.items() if name != "qkv_bias"})


def check_model(fixture: dict) -> Iterator[Result]:
    prefix = fixture["hash_prefix"]
    model = load(build_model(fixture["config"]) if fixture["kind"] == "model" else Article(len(fixture["logits"][0])), prefix)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = values(prefix, "input", fixture["input_shape"])
        with torch.inference_mode():
            logits = model.to(memory_format=layout)(x.contiguous(memory_format=layout))
        yield f"logits, {str(layout).removeprefix('torch.')}", relative_error(logits, fixture["logits"])


def check_blocks(fixture: dict) -> Iterator[Result]:
    for case in fixture["cases"]:
        config, prefix = case["config"], case["hash_prefix"]
        sides = (config["H"], config["W"]) if "H" in config else ()
        with torch.inference_mode():
            output = load(build_block(config), prefix)(values(prefix, "input", case["input_shape"]), *sides)
        yield case["id"], relative_error(output, case["output"])


def check_gradients(fixture: dict) -> Iterator[Result]:
    prefix = fixture["hash_prefix"]
    block = load(build_block(fixture["config"]), prefix).train()
    x = values(prefix, "input", fixture["input_shape"]).requires_grad_()
    output = block(x)
    target = values(prefix, "target", list(output.shape))
    (output * target).sum().backward()
    yield "output", relative_error(output.detach(), fixture["output"])
    yield "gradient of the input", relative_error(x.grad, fixture["grad_input"])
    parameters = dict(block.named_parameters())
    expected = np.concatenate([np.ravel(grad["data"]) for grad in fixture["grads"]])
    actual = np.concatenate([parameters[grad["name"]].grad.numpy().ravel() for grad in fixture["grads"]])
    yield "gradients of the parameters", relative_error(actual, expected)
    buffers = dict(block.named_buffers())
    for buffer in fixture["buffers_after"]:
        yield buffer["name"], relative_error(buffers[buffer["name"]], buffer["data"])


def check_training(fixture: dict) -> Iterator[Result]:
    prefix, labels = fixture["hash_prefix"], torch.tensor(fixture["labels"])
    x = values(prefix, "input", fixture["input_shape"])
    trace = fixture["adamw"]
    model = load(build_model(fixture["config"]), prefix).train()
    settings = trace["optimizer"]
    optimizer = create_optimizer(model, settings["lr"], settings["weight_decay"])
    losses = []
    for _ in trace["losses_before_each_step"]:
        loss = nn.functional.cross_entropy(model(x), labels, label_smoothing=trace["label_smoothing"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    yield "losses of AdamW", relative_error(losses, trace["losses_before_each_step"])
    with torch.inference_mode():
        logits = model.eval()(x)
    yield "logits after AdamW", relative_error(logits, trace["eval_logits_after"])


CHECKS = {"model": check_model, "seed": check_model, "blocks": check_blocks, "grad": check_gradients, "train": check_training}


def main(paths: list[str]) -> int:
    failed = 0
    for path in paths:
        fixture = json.loads(Path(path).read_text())
        for name, error in CHECKS[fixture["kind"]](fixture):
            failed += error > TOLERANCE
            print(f"{'ok  ' if error <= TOLERANCE else 'FAIL'} {Path(path).stem}: {name}: {error:.1e}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
