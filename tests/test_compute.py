"""The choice of execution follows from backend and device, and can be overruled."""

import os
import sys
import types

import keras
import numpy as np
import pytest

from galaxynb import compute
from galaxynb.compute import choose_execution, cores, cpu_flags, in_precision, list_gpus
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
