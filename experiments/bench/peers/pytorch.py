"""PyTorch as a contender: training and inference, op by op and by torch.compile, in float32 and by autocast to bfloat16."""

import os

import numpy as np
import torch

from models import create_model
from protocol import Work, serve
from training import create_optimizer, train_step


def host_batch(batch: int, size: int, channels_last: bool) -> torch.Tensor:
    """[b, 3, h, w] in host memory, laid out as the model wants it, so that no step pays for a conversion."""
    shape = (batch, size, size, 3) if channels_last else (batch, 3, size, size)
    images = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32))
    return images.permute(0, 3, 1, 2) if channels_last else images


def prepare(request: dict) -> tuple[Work, dict]:
    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    batch, size, classes = request["batch"], request["size"], request["classes"]
    channels_last = request["layout"] == "channels_last"
    training = request["mode"] == "train"
    model = create_model(request["model"], classes, size, drop_path=0.1).train(training)
    model = model.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    images = host_batch(batch, size, channels_last)
    freezing = ", weights frozen" if os.environ.get("TORCHINDUCTOR_FREEZING") == "1" else ""
    about = {"versions": {"PyTorch": torch.__version__}, "settings": request["layout"] + freezing}
    run = torch.compile(model) if request.get("compile") else model
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=request.get("bfloat16", False))
    if training:
        targets = torch.full((batch, classes), 0.1 / classes)
        targets[range(batch), [i % classes for i in range(batch)]] += 0.9
        optimizer = create_optimizer(model, learning_rate=1e-3, weight_decay=0.05)
        return (lambda: train_step(run, optimizer, images, targets, autocast)), about

    def infer() -> np.ndarray:
        with torch.inference_mode(), autocast:
            return run(images).float().numpy()

    return infer, about


serve(prepare)
