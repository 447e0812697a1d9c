"""The machine's cores, CPU instructions and GPUs, and how networks run on them.

Nothing here chooses a Keras backend. Keras reads the backend from the environment variable KERAS_BACKEND when it is
imported, and only functions that need Keras import it.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "BATCHES_ON",
    "JIT",
    "PRECISIONS",
    "VARIABLES",
    "Execution",
    "allocator_settings",
    "choose_execution",
    "cores",
    "cpu_flags",
    "device_settings",
    "gpus_of_machine",
    "in_precision",
    "list_gpus",
    "unused_gpus",
    "use_standard_keras",
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
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    *("HIP_VISIBLE_DEVICES", "LD_PRELOAD"),
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "TF_ENABLE_ONEDNN_OPTS"),
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
)


#: CPU instructions for bfloat16. Without them, TensorFlow's oneDNN emulates bfloat16, slowly.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}

#: Environment variables, new name and old, that set the newest instructions oneDNN may use.
_ONEDNN_MAXIMA = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


#: Packages that let a backend use NVIDIA's GPUs.
_GPU_PACKAGES = {"tensorflow": "tensorflow[and-cuda]", "jax": "jax[cuda13]", "torch": "torch"}


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
        Reasons for `jit`, `precision` and `batches_on`: one sentence per line. A further line warns of a GPU that the
        backend does not see.
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


def gpus_of_machine(environment=os.environ):
    """Return the names of the NVIDIA GPUs that this process may use, whether or not a backend can use them.

    This function does not import Keras. It calls the driver's program ``nvidia-smi``. Where that program is missing, it
    reads the folder ``/proc``. It leaves out GPUs that CUDA_VISIBLE_DEVICES hides.

    Parameters
    ----------
    environment : mapping of str
        Environment variables.

    Returns
    -------
    list of str
        Names such as "NVIDIA H100 80GB HBM3". The list is empty without a GPU or its driver.
    """
    found = _gpus_of_driver()
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [name for name, _ in found]
    names = []
    for chosen in visible.split(","):
        fitting = [name for at, (name, known) in enumerate(found) if _fits(chosen.strip(), at, known)]
        if not fitting:  # CUDA ignores everything after the first entry that it does not know
            break
        names.append(fitting[0])
    return names


def _fits(chosen, number, known):
    """Return whether an entry of CUDA_VISIBLE_DEVICES is a GPU's number, or the beginning of one of its identifiers."""
    return int(chosen) == number if chosen.isdigit() else chosen.startswith(("GPU-", "MIG-")) and chosen in known


def _gpus_of_driver():
    """Return the name of each GPU and a text with its identifiers, in the driver's order."""
    if shutil.which("nvidia-smi"):
        options = {"capture_output": True, "text": True, "errors": "replace", "timeout": 60}
        try:
            told = subprocess.run(["nvidia-smi", "-L"], check=True, **options).stdout
        except (OSError, subprocess.SubprocessError):
            return []  # such as a driver that does not fit the kernel
        # Lines about the parts of a GPU follow its own line.
        parts = re.split(r"^GPU \d+: ", told, flags=re.MULTILINE)[1:]
        return [(part.partition(" (")[0].strip(), part) for part in parts]
    found = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        entries = dict(line.split(":", 1) for line in path.read_text(errors="replace").splitlines() if ":" in line)
        # In a container, /proc lists GPUs of the machine that the container was not given.
        if Path(f"/dev/nvidia{entries.get('Device Minor', '').strip()}").exists():
            found.append((entries.get("Model", "NVIDIA GPU").strip(), entries.get("GPU UUID", "")))
    return found


def unused_gpus():
    """Return the names of GPUs that this process may use but Keras's backend does not see.

    Returns
    -------
    list of str
        Names as `gpus_of_machine` spells them. The list is empty if the backend sees a GPU, or if JAX_PLATFORMS keeps
        jax from GPUs.
    """
    import keras

    platforms = os.environ.get("JAX_PLATFORMS", "")
    if keras.backend.backend() == "jax" and platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return []
    return [] if list_gpus() else gpus_of_machine()


def device_settings(environment=os.environ, *, gpu=None):
    """Return the environment variables with which networks share a GPU with other processes.

    By default TensorFlow takes the whole memory of a GPU and jax three quarters of it, so a second notebook, or the
    desktop, fails for lack of memory. With these settings, both take memory when they need it.

    Parameters
    ----------
    environment : mapping of str
        Environment variables of the process that starts the networks. Variables that are set here already stay as they
        are.
    gpu : bool, optional
        Whether the networks may use a GPU. By default, they may if the machine has one that `environment` does not
        hide.

    Returns
    -------
    dict of str
        Value of each variable to add. It is empty without a GPU.

    Examples
    --------
    >>> device_settings({"CUDA_VISIBLE_DEVICES": ""})
    {}
    """
    settings = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if not (bool(gpus_of_machine(environment)) if gpu is None else gpu):
        return {}
    return {name: value for name, value in settings.items() if name not in environment}


def allocator_settings(environment=os.environ, *, gpu=None):
    """Return the environment variables with which glibc keeps freed memory for a process that trains on the CPU.

    A training step frees a gigabyte of arrays, and the next step allocates them again. By default, glibc returns large
    arrays and empty arenas to Linux, which then has to map and clear each page anew: these page faults can take more
    time than the arithmetic. These settings make glibc allocate all memory from one arena and never return it. They
    must be in the environment when the process starts. Other C libraries ignore them.

    - ``MALLOC_MMAP_MAX_=0``: no array gets a mapping of its own. A higher ``MALLOC_MMAP_THRESHOLD_`` would not suffice,
      because glibc accepts 32 MiB at most.
    - ``MALLOC_TRIM_THRESHOLD_``: free memory at the end of the arena is not returned.
    - ``MALLOC_ARENA_MAX=1``: threads have no arenas of their own, which glibc returns when they are empty, whatever the
      other settings are. One arena also lets each thread reuse the memory of all others.

    On two cores without oneDNN, an epoch of DenseNet121 (64 px, 30 steps and validation) took 12 s of user and 20 s of
    system time with glibc's defaults, and 11 s and 1 s with these settings. The number of page faults fell from 12
    million to some thousands. The peak memory stayed at 1.8 GB, because threads share the free memory, but the process
    keeps this memory until it ends. Predictions need less system time too. Reading data takes as long as before.

    Parameters
    ----------
    environment : mapping of str
        Environment variables of the process that starts the training.
    gpu : bool, optional
        Whether a GPU will train. By default, it will if the machine has one that `environment` does not hide.

    Returns
    -------
    dict of str
        Value of each variable to add. It is empty if the system is not Linux, if a GPU will train, or if the user has
        chosen settings of the allocator: any variable whose name begins with ``MALLOC_``, or ``glibc.malloc`` in
        GLIBC_TUNABLES.

    Examples
    --------
    >>> allocator_settings({"MALLOC_ARENA_MAX": "4"})
    {}
    """
    chosen = any(name.startswith("MALLOC_") for name in environment)
    if chosen or "glibc.malloc" in environment.get("GLIBC_TUNABLES", ""):
        return {}
    gpu = bool(gpus_of_machine(environment)) if gpu is None else gpu
    if gpu or not sys.platform.startswith("linux"):
        return {}
    return {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


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
    reasons = [reason for _, reason in choice.values()]
    if unused := unused_gpus():
        package = _GPU_PACKAGES[backend]
        reasons.append(
            f"This machine has a GPU ({', '.join(dict.fromkeys(unused))}), but {backend} does not see it: "
            f'give KERNEL a kernel with the package "{package}", as the section on GPUs in book/running.md says.'
        )
    return Execution(
        backend=backend,
        device=device,
        jit=choice["jit"][0],
        precision=choice["precision"][0],
        batches_on=choice["batches_on"][0],
        reason="\n".join(reasons),
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


def use_standard_keras():
    """Set Keras to float32, channels last, its own epsilon and no limit on epochs, until the process ends.

    Keras reads these settings from the user's ``keras.json`` and environment. They decide the layout of layers, the
    precision of losses, metrics and the inputs of ``predict``, and the length of a training. Keras reads some of them
    again in every later call, so they are not restored. The functions of `galaxynb.networks` that build, compile, train
    or load a network call this function.
    """
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_max_epochs(None)
    keras.config.set_max_steps_per_epoch(None)
