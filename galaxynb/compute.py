"""What a machine offers and how networks run on it: cores, GPUs, compilation, precision, supply of batches.

Nothing here chooses a backend: Keras reads that from the environment variable KERAS_BACKEND when it is imported,
which only the functions that ask it do.
"""

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "BATCHES_ON",
    "JIT",
    "PRECISIONS",
    "Execution",
    "choose_execution",
    "cores",
    "cpu_flags",
    "in_precision",
    "list_gpus",
]


#: What the choice of compilation by XLA can be.
JIT = ("auto", True, False)

#: What the choice of precision can be: Keras's names of dtype policies. float16 would need its losses scaled.
PRECISIONS = ("auto", "float32", "mixed_bfloat16")

#: Where training batches can be made: by the CPU with OpenCV, or by the networks' own device.
BATCHES_ON = ("auto", "host", "device")


#: Instructions that oneDNN, TensorFlow's library on CPUs, multiplies bfloat16 by; without them it imitates them slowly.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How networks are run.

    Attributes
    ----------
    backend : str
        Keras's backend: tensorflow, jax or torch.
    device : str
        "gpu" or "cpu".
    jit : bool
        Whether steps are compiled by XLA (jax, tensorflow) or TorchDynamo (torch).
    precision : str
        Name of a Keras dtype policy.
    batches_on : str
        Where training batches are turned, mirrored and made noisy: "host" or "device".
    reason : str
        Why these are what they are: a sentence, on a line of its own, for each.
    """

    backend: str
    device: str
    jit: bool
    precision: str
    batches_on: str
    reason: str


def list_gpus():
    """Return the names of the GPUs that Keras's backend sees, as the backend names them.

    Returns
    -------
    list of str
        Empty without one.
    """
    import keras

    if keras.backend.backend() == "torch":  # for which Keras lists no devices
        cuda = sys.modules["torch"].cuda
        return [f"gpu:{number}" for number in range(cuda.device_count())]
    # Those of the default kind: asked for GPUs, jax raises where there are none.
    return [name for name in keras.distribution.list_devices() if name.lower().startswith("gpu")]


def cores():
    """Return how many CPU cores this process may use: fewer than the machine has where a scheduler lends us some.

    Schedulers say so by the cores that a process may run on, or, as Snakemake and most queues do, by OMP_NUM_THREADS.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    lent = os.environ.get("OMP_NUM_THREADS", "")
    return min(there, int(lent)) if lent.isdigit() and int(lent) else there


def cpu_flags():
    """Return the names of this CPU's instruction sets, as Linux tells them; empty elsewhere.

    Returns
    -------
    set of str
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.partition(":")[2].split()}


def choose_execution(*, jit="auto", precision="auto", batches_on="auto"):
    """Choose how to run networks on the backend and device at hand.

    Parameters
    ----------
    jit : {"auto", True, False}
    precision : {"auto", "float32", "mixed_bfloat16"}
    batches_on : {"auto", "host", "device"}

    Returns
    -------
    Execution

    Raises
    ------
    ValueError
        If one of them is another word.
    """
    import keras

    jit = {"true": True, "false": False}.get(jit, jit)  # as text, from a notebook or a command line
    asked = {"jit": (jit, JIT), "precision": (precision, PRECISIONS), "batches_on": (batches_on, BATCHES_ON)}
    for name, (value, known) in asked.items():
        if value not in known:
            raise ValueError(f"{name} is {value!r}, but one of {', '.join(map(str, known))} is expected: choose one")
    backend = keras.backend.backend()
    device = "gpu" if list_gpus() else "cpu"
    choice = {"jit": _jit(backend, device), "precision": _precision(backend, device), "batches_on": _batches_on(device)}
    for name, (value, _) in asked.items():
        if value != "auto":
            choice[name] = value, f"{name.capitalize()} is {value}, as asked for."
    return Execution(
        backend=backend,
        device=device,
        jit=choice["jit"][0],
        precision=choice["precision"][0],
        batches_on=choice["batches_on"][0],
        reason="\n".join(reason for _, reason in choice.values()),
    )


def _jit(backend, device):
    if backend == "jax":
        return True, "Steps are compiled: jax runs operation by operation without."
    if backend == "torch":
        return False, "Steps are not compiled: TorchDynamo would take minutes before the first."
    if device == "gpu":
        return True, "Steps are compiled: XLA joins the many small operations between DenseNet121's convolutions."
    return False, "Steps are not compiled: XLA's convolutions halve DenseNet121's speed on a CPU under TensorFlow."


def _precision(backend, device):
    if device == "gpu":
        return "mixed_bfloat16", "Convolutions run in bfloat16, which has float32's range and so needs no loss scaling."
    if backend == "tensorflow" and _BFLOAT16_FLAGS & cpu_flags():
        return "mixed_bfloat16", "Convolutions run in bfloat16, for which this CPU has instructions of its own."
    return "float32", "Numbers are float32: on this CPU and backend fewer bits would not be faster."


def _batches_on(device):
    if device == "gpu":
        return "device", "Batches are made on the GPU, which would wait for the CPU's."
    return "host", "Batches are made by OpenCV."


@contextlib.contextmanager
def in_precision(precision):
    """Let the layers built within compute in a precision; weights stay float32.

    Parameters
    ----------
    precision : str
        Name of a Keras dtype policy.
    """
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
