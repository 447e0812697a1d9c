"""The choice of execution follows from backend and device, and can be overruled."""

import json
import os
import platform
import subprocess
import sys
import types

import keras
import numpy as np
import pytest

from galaxynb import compute
from galaxynb.compute import (
    allocator_settings,
    choose_execution,
    cores,
    cpu_flags,
    device_settings,
    gpus_of_machine,
    in_precision,
    list_gpus,
)
from galaxynb.networks.autoencoder import build_autoencoder
from galaxynb.networks.models import in_float32


@pytest.fixture
def machine(monkeypatch):
    """Return a function that imitates a backend with or without a GPU."""

    def pretend(backend, gpus, flags=()):
        monkeypatch.setattr(compute, "cpu_flags", lambda: set(flags))
        for name in ("TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(keras.backend, "backend", lambda: backend)
        monkeypatch.setattr(compute, "list_gpus", lambda: ["gpu:0"] * gpus)
        monkeypatch.setattr(compute, "gpus_of_machine", lambda *_: ["NVIDIA L4"] * gpus)

    return pretend


@pytest.mark.parametrize(
    ("backend", "gpus", "jit", "precision", "batches_on"),
    [
        ("tensorflow", 0, False, "float32", "host"),
        ("jax", 0, True, "float32", "host"),
        ("torch", 0, False, "float32", "host"),
        ("tensorflow", 1, True, "mixed_bfloat16", "device"),
        ("jax", 2, True, "mixed_bfloat16", "device"),
        ("torch", 1, False, "mixed_bfloat16", "device"),
    ],
)
def test_backend_and_device_decide(machine, backend, gpus, jit, precision, batches_on):
    machine(backend, gpus)
    how = choose_execution()
    assert (how.backend, how.device) == (backend, "gpu" if gpus else "cpu")
    assert (how.jit, how.precision, how.batches_on) == (jit, precision, batches_on)
    assert [line[-1] for line in how.reason.splitlines()] == ["."] * 3


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_a_cpu_with_instructions_for_bfloat16_uses_them_under_tensorflow(machine, flag):
    machine("tensorflow", 0, {flag, "avx512f"})
    assert choose_execution().precision == "mixed_bfloat16"
    assert choose_execution(precision="float32").precision == "float32"
    machine("jax", 0, {flag, "avx512f"})
    assert choose_execution().precision == "float32"


@pytest.mark.parametrize(
    ("setting", "precision"),
    [
        ("ONEDNN_MAX_CPU_ISA=AVX2", "float32"),
        ("DNNL_MAX_CPU_ISA=AVX512_CORE", "float32"),
        ("TF_ENABLE_ONEDNN_OPTS=0", "float32"),
        ("ONEDNN_MAX_CPU_ISA=DEFAULT", "mixed_bfloat16"),
        ("TF_ENABLE_ONEDNN_OPTS=1", "mixed_bfloat16"),
    ],
)
def test_bfloat16_is_not_used_where_a_setting_keeps_onednn_from_it(machine, monkeypatch, setting, precision):
    machine("tensorflow", 0, {"avx512_bf16"})
    monkeypatch.setenv(*setting.split("="))
    how = choose_execution()
    assert how.precision == precision
    assert (setting in how.reason) == (precision == "float32")
    assert choose_execution(precision="mixed_bfloat16").precision == "mixed_bfloat16"


def test_cpu_flags_are_what_linux_tells(monkeypatch, tmp_path):
    told = tmp_path / "cpuinfo"
    monkeypatch.setattr(compute, "Path", lambda name: {"/proc/cpuinfo": told}[name])
    assert cpu_flags() == set()
    told.write_text("processor\t: 0\nflags\t\t: fpu avx512_bf16\nbogomips\t: 5\nflags\t\t: fpu\n")
    assert cpu_flags() == {"fpu", "avx512_bf16"}


@pytest.mark.parametrize("jit", [True, "true"])
def test_a_choice_can_be_overruled(machine, jit):
    machine("tensorflow", 0)
    how = choose_execution(jit=jit, precision="mixed_bfloat16", batches_on="device")
    assert (how.jit, how.precision, how.batches_on) == (True, "mixed_bfloat16", "device")
    assert how.reason.count("as asked for") == 3


@pytest.mark.parametrize(("name", "value"), [("jit", "on"), ("precision", "float8"), ("batches_on", "gpu")])
def test_an_unknown_choice_is_named(name, value):
    with pytest.raises(ValueError, match=rf"^{name} is '{value}', but one of auto, .* is needed: choose one$"):
        choose_execution(**{name: value})


def test_gpus_are_none_where_keras_sees_cpus_alone(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["CPU:0"])
    assert list_gpus() == []
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0", "gpu:1"])
    assert list_gpus() == ["gpu:0", "gpu:1"]
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=types.SimpleNamespace(device_count=lambda: 1)))
    assert list_gpus() == ["gpu:0"]


def test_cores_are_those_this_process_may_use(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(compute.os, "sched_getaffinity", lambda pid: {1, 5, 6}, raising=False)
    assert cores() == 3
    for lent, expected in (("2", 2), ("8", 3), ("0", 3), ("many", 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", lent)
        assert cores() == expected
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delattr(compute.os, "sched_getaffinity")
    monkeypatch.setattr(compute.os, "cpu_count", lambda: None)
    assert cores() == 1


def test_a_precision_ends_with_its_block():
    before = keras.config.dtype_policy().name
    with in_precision("mixed_bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
    with pytest.raises(ValueError, match="nonsense"), in_precision("mixed_bfloat16"):
        keras.layers.Dense(1, activation="nonsense")
    assert keras.config.dtype_policy().name == before


def test_a_network_in_mixed_precision_takes_and_gives_float32():
    model = build_autoencoder(32, filters=(4,), width=4, depth=1, precision="mixed_bfloat16")
    assert {layer.compute_dtype for layer in model.layers if layer.name[:3] in ("hal", "mid", "dou")} == {"bfloat16"}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert model.input.dtype == model.output.dtype == model.get_layer("denoised").compute_dtype == "float32"
    assert keras.layers.Dense(1).compute_dtype == "float32"


def test_a_network_of_any_precision_is_kept_in_float32():
    images = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
    mixed = build_autoencoder(32, filters=(4,), width=4, depth=1, precision="mixed_bfloat16")
    assert "bfloat16" in {layer.compute_dtype for layer in mixed.layers}
    kept = in_float32(mixed)
    assert {layer.compute_dtype for layer in kept.layers} == {"float32"}
    plain = build_autoencoder(32, filters=(4,), width=4, depth=1)  # of the same seed
    np.testing.assert_array_equal(kept.predict(images, verbose=0), plain.predict(images, verbose=0))


@pytest.mark.skipif(
    not {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"}.isdisjoint(os.environ),
    # TensorFlow checks the CPU but not the limit, and then asks oneDNN for instructions that it may not use.
    reason="TensorFlow fails in bfloat16 where oneDNN is limited: unset ONEDNN_MAX_CPU_ISA and DNNL_MAX_CPU_ISA",
)
def test_predictions_in_bfloat16_are_near_those_in_float32():
    images = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
    mixed, exact = [
        build_autoencoder(32, filters=(4,), width=4, depth=1, precision=precision).predict(images, verbose=0)
        for precision in ("mixed_bfloat16", "float32")
    ]
    assert 0 < np.abs(mixed - exact).max() < 0.05


# --- GPUs of the machine and the environment of a process that trains

TOLD = """GPU 0: NVIDIA L4 (UUID: GPU-aaaa-1)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bbbb-2)
  MIG 1g.10gb     Device  0: (UUID: MIG-cccc-3)
"""
L4, H100 = "NVIDIA L4", "NVIDIA H100 80GB HBM3"


@pytest.fixture
def driver(monkeypatch, tmp_path):
    """Return a function that makes a driver's program which prints a text and ends with a status."""

    def make(text, status=0):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\nexit {status}\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return make


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, [L4, H100]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1", [H100]),
        ("1, 0", [H100, L4]),
        ("0,-1,1", [L4]),
        ("2", []),
        ("GPU-bbbb", [H100]),
        ("MIG-cccc-3", [H100]),
    ],
)
def test_gpus_of_the_machine_are_those_that_cuda_may_use(driver, visible, names):
    driver(TOLD)
    assert gpus_of_machine({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == names


@pytest.mark.parametrize(("text", "status"), [("No devices were found\n", 0), (TOLD, 9)])
def test_a_driver_that_fails_or_finds_nothing_means_no_gpu(driver, text, status):
    driver(text, status)
    assert gpus_of_machine({}) == []


def test_proc_lists_gpus_where_the_drivers_program_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(compute.shutil, "which", lambda name: None)
    monkeypatch.setattr(compute, "Path", lambda name: tmp_path / name.lstrip("/"))
    assert gpus_of_machine({}) == []
    for minor, model in ((0, L4), (1, H100)):
        told = tmp_path / f"proc/driver/nvidia/gpus/0000:0{minor}:00.0/information"
        told.parent.mkdir(parents=True)
        told.write_text(f"Model: \t\t {model}\nGPU UUID: \t GPU-{minor}\nDevice Minor: \t {minor}\n", encoding="utf-8")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia1").touch()  # the only GPU that this container was given
    assert gpus_of_machine({}) == [H100]


def test_settings_depend_on_the_device_that_trains_and_never_replace_the_users(driver, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    driver(TOLD)
    growth = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    assert (allocator_settings({}), device_settings({})) == ({}, growth)
    assert device_settings({"TF_FORCE_GPU_ALLOW_GROWTH": "false"}) == {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    assert device_settings(hidden) == {}
    kept = allocator_settings(hidden)
    assert kept == {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1099511627776"}
    assert allocator_settings(hidden | kept) == {}
    for name, value in (("MALLOC_ARENA_MAX", "8"), ("MALLOC_CONF", "x"), ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")):
        assert allocator_settings(hidden | {name: value}) == {}
    assert allocator_settings(hidden | {"GLIBC_TUNABLES": "glibc.cpu.x86_ibt=on"}) == kept
    for other in ("darwin", "win32"):
        monkeypatch.setattr(sys, "platform", other)
        assert allocator_settings(hidden) == {}


_ALLOCATE = """
import resource
import numpy as np
def step():
    for array in [np.ones(5 * 2**20) for _ in range(3)]:  # 40 MiB each
        del array
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc reads these settings")
def test_with_the_settings_freed_memory_is_reused_without_page_faults():
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    settings = allocator_settings(plain | {"CUDA_VISIBLE_DEVICES": ""})
    program = [sys.executable, "-c", _ALLOCATE]
    usual, kept = (
        int(subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout)
        for environment in (plain, plain | settings)
    )
    assert kept < 100
    assert kept < usual / 4


@pytest.mark.parametrize(
    ("backend", "package"), [("tensorflow", "tensorflow[and-cuda]"), ("jax", "jax[cuda13]"), ("torch", "torch")]
)
def test_a_gpu_that_the_backend_does_not_see_is_named(machine, monkeypatch, backend, package):
    machine(backend, 0)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(compute, "gpus_of_machine", lambda *_: [L4, L4])
    warning = choose_execution().reason.splitlines()[-1]
    assert warning.startswith(f"This machine has a GPU (NVIDIA L4), but {backend} does not see it: give KERNEL")
    assert f'with the package "{package}"' in warning
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert ("does not see" in choose_execution().reason) == (backend != "jax")


# --- settings of the user's keras.json

_TRAIN = """
import sys
import numpy as np
import keras
from galaxynb.networks.autoencoder import build_autoencoder
from galaxynb.networks.classifier import build_classifier
from galaxynb.networks.models import compile_model, load_model, save_model
images = np.random.default_rng(0).random((8, 32, 32, 3), np.float32)
model = compile_model(build_autoencoder(32, filters=(4,), width=4, depth=1), "mean_absolute_error", metrics=["mse"])
history = model.fit(images, images, epochs=2, verbose=0).history
assert len(history["loss"]) == 2
assert model.compute_loss(images, keras.ops.convert_to_tensor(images), images * 1.00001).dtype == "float32"
save_model(model, sys.argv[1])
loaded = load_model(sys.argv[1], "this test")
print(history, loaded.evaluate(images, images, verbose=0), loaded.predict(images, verbose=0).sum(dtype=float))
classifier = build_classifier(32)
print(classifier.output_shape, {layer.data_format for layer in classifier.layers if hasattr(layer, "data_format")})
print({layer.compute_dtype for network in (model, loaded, classifier) for layer in network.layers})
"""


def test_nothing_of_the_users_keras_settings_reaches_the_networks(tmp_path):
    usual = {"floatx": "float32", "epsilon": 1e-7, "backend": "tensorflow", "image_data_format": "channels_last"}
    other = {"floatx": "float16", "epsilon": 0.5, "backend": "tensorflow", "image_data_format": "channels_first"}
    limits = {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1"}
    printed = []
    for name, settings, more in (("usual", usual, {}), ("other", other, limits)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keras.json").write_text(json.dumps(settings), encoding="utf-8")
        environment = os.environ | more | {"KERAS_HOME": str(tmp_path / name), "KERAS_BACKEND": "tensorflow"}
        command = [sys.executable, "-c", _TRAIN, str(tmp_path / f"{name}.keras")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        printed.append(done.stdout)
    assert printed[0] == printed[1]
    assert "(None, 10) {'channels_last'}" in printed[0]
    assert "{'float32'}" in printed[0]
