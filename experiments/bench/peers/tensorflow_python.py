"""Python's TensorFlow as a contender: `tf.function` on a SavedModel that the lab wrote.

An output with the name of an input is state: it is fed back in the next step. The others are read by the host.
"""

import numpy as np
import tensorflow as tf

from protocol import Work, serve


def host_value(spec: tf.TensorSpec, rng: np.random.Generator) -> np.ndarray:
    """Uniform in [0, 1): a value that every input may have (images, targets, noise, weights, second moments)."""
    return rng.random(spec.shape.as_list()).astype(spec.dtype.as_numpy_dtype)


def prepare(request: dict) -> tuple[Work, dict]:
    tf.config.threading.set_intra_op_parallelism_threads(request["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(request["threads"])
    module = tf.saved_model.load(request["savedModel"])
    function = module.signatures["serving_default"]
    specs = function.structured_input_signature[1]
    rng = np.random.default_rng(0)
    values = {name: host_value(spec, rng) for name, spec in specs.items()}
    state = {name: tf.constant(values.pop(name)) for name in function.structured_outputs if name in specs}

    def run(module=module) -> list[np.ndarray]:  # a signature lives as long as its module
        outputs = function(**{name: tf.constant(value) for name, value in values.items()}, **state)
        state.update((name, outputs.pop(name)) for name in list(state))
        return [value.numpy() for value in outputs.values()]

    return run, {"versions": {"TensorFlow": tf.__version__}, "settings": "serving_default"}


serve(prepare)
