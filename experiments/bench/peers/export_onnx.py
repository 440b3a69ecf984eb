"""Writes a model in evaluation mode as ONNX: `python export_onnx.py MODEL BATCH SIZE CLASSES FILE`."""

import sys

import torch

from models import create_model


def main(name: str, batch: str, size: str, classes: str, path: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, int(classes), int(size)).eval()
    images = torch.zeros(int(batch), 3, int(size), int(size))
    torch.onnx.export(model, (images,), path, input_names=["images"], output_names=["logits"], external_data=False, verbose=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
