"""The machine's cores, CPU instructions and GPUs, and how networks run on them.

Nothing here chooses a Keras backend. Keras reads the backend from the environment variable KERAS_BACKEND when it is
imported, and only functions that need Keras import it.
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
    "VARIABLES",
    "Execution",
    "choose_execution",
    "cores",
    "cpu_flags",
    "in_precision",
    "list_gpus",
]


#: Allowed values for the compilation of training steps.
JIT = ("auto", True, False)

#: Allowed values for the precision: "auto" and names of Keras dtype policies. float16 is not among them, because it
#: needs loss scaling.
PRECISIONS = ("auto", "float32", "mixed_bfloat16")

#: Allowed values for the place where training batches are made: "host" is the CPU, with OpenCV, and "device" is the
#: device that trains.
BATCHES_ON = ("auto", "host", "device")

#: Environment variables of the user that describe the machine or its connection. They reach each stage, and its record
#: names them.
VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "TF_ENABLE_ONEDNN_OPTS"),
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
)


#: CPU instructions for bfloat16. Without them, TensorFlow's oneDNN emulates bfloat16, slowly.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}

#: Environment variables, new name and old, that set the newest instructions oneDNN may use.
_ONEDNN_MAXIMA = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """The way networks run: backend, device, compilation, precision and place of the batches.

    Attributes
    ----------
    backend : str
        Keras's backend: "tensorflow", "jax" or "torch".
    device : str
        "gpu" or "cpu".
    jit : bool
        Whether XLA (tensorflow, jax) or TorchDynamo (torch) compiles training steps.
    precision : str
        Name of a Keras dtype policy.
    batches_on : str
        Where training batches are turned, mirrored and made noisy: "host" or "device".
    reason : str
        Reasons for `jit`, `precision` and `batches_on`: one sentence per line.
    """

    backend: str
    device: str
    jit: bool
    precision: str
    batches_on: str
    reason: str


def list_gpus():
    """Return the names of the GPUs that Keras's backend can use, as the backend spells them.

    Returns
    -------
    list of str
        Names such as "gpu:0". The list is empty if there is no GPU.
    """
    import keras

    if keras.backend.backend() == "torch":  # Keras cannot list devices for torch
        cuda = sys.modules["torch"].cuda
        return [f"gpu:{number}" for number in range(cuda.device_count())]
    # List all devices rather than ask for GPUs: jax raises an error if it is asked for GPUs and has none.
    return [name for name in keras.distribution.list_devices() if name.lower().startswith("gpu")]


def cores():
    """Return the number of CPU cores that this process may use.

    A scheduler may grant fewer cores than the machine has. It limits either the cores that the process can run on or,
    as Snakemake and most queues do, the environment variable OMP_NUM_THREADS.

    Returns
    -------
    int
        Number of cores, >= 1.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(granted)) if granted.isdigit() and int(granted) else available


def cpu_flags():
    """Return the names of this CPU's instruction sets, as Linux spells them.

    Returns
    -------
    set of str
        Names such as "avx512_bf16". The set is empty on other systems than Linux.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.partition(":")[2].split()}


def choose_execution(*, jit="auto", precision="auto", batches_on="auto"):
    """Choose how networks run on this machine, with the current Keras backend.

    Parameters
    ----------
    jit : {"auto", True, False}
        Whether to compile training steps. "auto" compiles where that is faster.
    precision : {"auto", "float32", "mixed_bfloat16"}
        Keras dtype policy. "auto" takes bfloat16 where the device has instructions for it.
    batches_on : {"auto", "host", "device"}
        Where to make training batches. "auto" takes the device if it is a GPU.

    Returns
    -------
    Execution
        The choices and the reasons for them.

    Raises
    ------
    ValueError
        If a parameter has another value.

    Examples
    --------
    >>> execution = choose_execution(precision="float32", batches_on="host")
    >>> execution.precision, execution.batches_on
    ('float32', 'host')
    """
    import keras

    jit = {"true": True, "false": False}.get(jit, jit)  # notebooks and command lines pass text
    asked = {"jit": (jit, JIT), "precision": (precision, PRECISIONS), "batches_on": (batches_on, BATCHES_ON)}
    for name, (value, known) in asked.items():
        if value not in known:
            raise ValueError(f"{name} is {value!r}, but one of {', '.join(map(str, known))} is needed: choose one")
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
        return True, "Steps are compiled: without compilation, jax runs each operation on its own."
    if backend == "torch":
        return False, "Steps are not compiled: TorchDynamo would take minutes before the first step."
    if device == "gpu":
        return True, "Steps are compiled: XLA joins the many small operations between DenseNet121's convolutions."
    return False, "Steps are not compiled: XLA's convolutions halve DenseNet121's speed on a CPU under TensorFlow."


def _precision(backend, device):
    if device == "gpu":
        return "mixed_bfloat16", "Convolutions run in bfloat16, which has float32's range and so needs no loss scaling."
    if backend == "tensorflow" and _BFLOAT16_FLAGS & cpu_flags():
        if limit := _onednn_limit():
            return "float32", f"Numbers are float32: {limit} keeps TensorFlow from this CPU's bfloat16 instructions."
        return "mixed_bfloat16", "Convolutions run in bfloat16, for which this CPU has its own instructions."
    return "float32", "Numbers are float32: on this CPU and backend fewer bits would not be faster."


def _onednn_limit():
    """Return the environment variable, as NAME=value, that limits the instructions oneDNN uses; "" without one."""
    without_limit = {"TF_ENABLE_ONEDNN_OPTS": ("1", "true"), **dict.fromkeys(_ONEDNN_MAXIMA, ("all", "default"))}
    for name, values in without_limit.items():
        value = os.environ.get(name, "")
        if value and value.lower() not in values:
            return f"{name}={value}"
    return ""


def _batches_on(device):
    if device == "gpu":
        return "device", "Batches are made on the GPU, which would otherwise wait for the CPU."
    return "host", "Batches are made on the CPU, by OpenCV."


@contextlib.contextmanager
def in_precision(precision):
    """Set the precision in which layers built within a block compute. Their weights stay float32.

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


def gpus_of_machine():
    """Stand in until the helper's function lands."""
    return []
