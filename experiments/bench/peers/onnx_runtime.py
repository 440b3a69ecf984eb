"""ONNX Runtime as a contender: inference of a file, or of the PyTorch model, exported to ONNX in a process of its own."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

from protocol import Work, serve


def prepare(request: dict) -> tuple[Work, dict]:
    batch, size = request["batch"], request["size"]
    options = onnxruntime.SessionOptions()  # all graph optimisations are on by default
    options.intra_op_num_threads = request["threads"]
    with tempfile.TemporaryDirectory() as folder:
        path = request.get("file")
        if path is None:
            path = str(Path(folder, "model.onnx"))
            export = [sys.executable, Path(__file__).with_name("export_onnx.py"), request["model"], batch, size, request["classes"], path]
            subprocess.run([str(word) for word in export], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    images = np.random.default_rng(0).standard_normal((batch, 3, size, size), np.float32)
    about = {"versions": {"ONNX Runtime": onnxruntime.__version__}, "settings": "all graph optimisations"}
    return (lambda: session.run(None, {given.name: images})), about


serve(prepare)
