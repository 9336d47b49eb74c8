# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""`lathe engine`, and whose native code runs: engines for a GPU through the driver that checks calls and runs nothing (tests/fake_cuda). What was
compiled lies in the cache folder, so its files count compilations; where NVRTC is missing there can be none."""

import json
import os
import shutil
import stat
import subprocess

import numpy as np
import pytest

import models
from zoo import absent, build_dir, program

FAKE = build_dir() / "tests" / "liblathe_fake_cuda.so"
QUICK = ["--budget", "0", "--no-verify", "--no-cache", "-q"]
BUILD = [*QUICK, "--shape", "x:1x4:2x4:4x4"]
RUN = ["run", "m.engine", "--input", "x=x.npy"]


class Shelf:
    """A folder with engines, and calls of the command with a cache folder of one's own ("home": who built them)."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, *words, cache="home", **knobs):
        environment = {
            **os.environ,
            "LATHE_CUDA_DRIVER": str(FAKE),
            "LATHE_CUBLASLT": "none",
            "LATHE_CUDNN": "none",
            "LATHE_CACHE_DIR": str(self.folder / cache),
            **knobs,
        }
        return subprocess.run([program("lathe"), *map(str, words)], capture_output=True, text=True, cwd=self.folder, env=environment, timeout=120, check=False)

    def ok(self, *words, **options):
        done = self.run(*words, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def fails(self, code, *words, says=(), **options):
        done = self.run(*words, **options)
        assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        assert done.stderr.startswith("lathe: ") and done.stderr.count("\n") == 1, done.stderr
        for word in [says] if isinstance(says, str) else says:
            assert word in done.stderr, f"{word!r} is not in: {done.stderr}"

    def json(self, *words, code=0, **options):
        done = self.run(*words, "--json", **options)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def native(self, file, **options):
        """What `list` says of the GPU's native code; None without."""
        (device,) = [d for d in self.json("engine", "list", file, **options)["devices"] if d["device"].startswith("cuda:")]
        return device.get("native")

    def compiled(self, cache):
        return len(list((self.folder / cache / "cuda").glob("*.cubin")))

    def trusting(self, cache, key="me.pub"):
        self.ok("engine", "trust", key, cache=cache)
        return cache


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    if not FAKE.exists():
        absent(f"{FAKE} is not built")
    shelf = Shelf(tmp_path_factory.mktemp("engines"))
    models.save(models.relu_add(), shelf.folder / "m.onnx")
    np.save(shelf.folder / "x.npy", np.array([[-1, 0, 1, 2], [3, -4, 5, -6]], np.float32))
    shelf.ok("build", "m.onnx", "-o", "m.engine", "--device", "cuda", *BUILD)
    shelf.ok("build", "m.onnx", "-o", "plain.engine", "--device", "cuda", "--no-native", *BUILD)
    shelf.ok("build", "m.onnx", "-o", "cpu.engine", *BUILD)
    (shelf.folder / "me.pub").write_text(shelf.ok("engine", "keygen").stdout)
    return shelf


def test_a_build_keeps_and_signs_native_code(shelf):
    native = shelf.native("m.engine")
    assert native["trust"] == "trusted" and native["bytes"] > 1000
    (signature,) = native["signatures"]
    assert signature["by"] == "this user's own key" and signature["fits"] and signature["key"] in (shelf.folder / "me.pub").read_text()
    assert shelf.native("plain.engine") is None
    kinds = [section["kind"] for section in shelf.json("engine", "list", "m.engine")["sections"]]
    assert kinds.count("native code") == 1 and kinds.count("program") == 2 and kinds[-1] == "weights"
    key = shelf.folder / "home" / "keys" / "own.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    # Two builds by one user are the same, native code and signature included.
    shelf.ok("build", "m.onnx", "-o", "again.engine", "--device", "cuda", *BUILD)
    assert shelf.native("again.engine") == native


def test_a_trusted_engine_needs_no_compiler(shelf):
    shelf.fails(3, "run", "plain.engine", "--input", "x=x.npy", cache="nothing", LATHE_NVRTC="none", says=["fused region", "nvidia-cuda-nvrtc"])
    cache = shelf.trusting("friend")
    done = shelf.ok(*RUN, cache=cache, LATHE_NVRTC="none")
    assert done.stderr == "" and shelf.compiled(cache) == 0
    # The own key's engines neither, where the code was cleared from the cache.
    shutil.copytree(shelf.folder / "home" / "keys", shelf.folder / "moved" / "keys")
    assert shelf.ok(*RUN, cache="moved", LATHE_NVRTC="none").stderr == ""
    shown = shelf.json("show", "m.engine", cache=cache)
    assert shown["native_code"].startswith("native code of ") and "signed by 'me'" in shown["native_code"]
    assert "signed by 'me'" in shelf.ok("show", "m.engine", cache=cache).stdout


def test_a_strangers_engine_is_compiled_here(shelf):
    done = shelf.ok(*RUN, cache="stranger")
    assert done.stderr.count("\n") == 1 and "native code ignored: signed by the unknown key" in done.stderr and "lathe engine trust" in done.stderr
    made = shelf.compiled("stranger")
    assert made > 0
    shown = shelf.json("show", "m.engine", cache="stranger")["native_code"]
    assert "ignored" in shown and shelf.native("m.engine")["signatures"][0]["key"][:16] in shown
    assert not (shelf.folder / "stranger" / "keys").exists(), "running makes no key"
    assert shelf.compiled("stranger") == made, "showing compiles nothing"
    # Afterwards they are cached, trusted or not.
    assert shelf.ok(*RUN, cache="stranger", LATHE_NVRTC="none").returncode == 0


def test_trust_that_is_taken_back(shelf):
    cache = shelf.trusting("fickle")
    assert shelf.ok(*RUN, cache=cache, LATHE_NVRTC="none").stderr == ""
    listed = shelf.json("engine", "trust", "--list", cache=cache)
    assert [key["name"] for key in listed["trusted"]] == ["me"] and listed["own"] is None
    assert "me" in shelf.ok("engine", "trust", "--list", cache=cache).stdout
    shelf.ok("engine", "trust", "--remove", "me", cache=cache)
    assert shelf.json("engine", "trust", "--list", cache=cache)["trusted"] == []
    done = shelf.ok(*RUN, cache=cache)
    assert "unknown key" in done.stderr and shelf.compiled(cache) > 0


@pytest.mark.parametrize("where", ["begin", "middle", "end"])
def test_changed_code_is_never_run(shelf, where):
    """Every hash of the file is put right, as who means harm would: the reader itself has nothing to say."""
    (section,) = [s for s in shelf.json("engine", "list", "m.engine")["sections"] if s["kind"] == "native code"]
    content = bytearray((shelf.folder / "m.engine").read_bytes())
    content[section["at"] + {"begin": 0, "middle": section["bytes"] // 2, "end": section["bytes"] - 1}[where]] ^= 1
    (shelf.folder / "bad.engine").write_bytes(content)
    cache = f"tampered-{where}"
    shutil.copytree(shelf.folder / "home" / "keys", shelf.folder / cache / "keys")
    done = shelf.ok("run", "bad.engine", "--input", "x=x.npy", cache=cache)
    assert "native code ignored: the signature by this user's own key does not fit" in done.stderr
    assert shelf.compiled(cache) > 0
    assert shelf.native("bad.engine")["trust"] == "broken"
    report = shelf.json("engine", "verify", "bad.engine", code=1)
    assert [check["ok"] for check in report["checks"]] == [True, False, False]
    shelf.fails(1, "engine", "sign", "bad.engine", says=["bad.engine", "damaged"])


def test_verify(shelf):
    assert shelf.json("engine", "verify", "m.engine")["ok"] is True
    assert "BAD" not in shelf.ok("engine", "verify", "m.engine").stdout
    report = shelf.json("engine", "verify", "m.engine", code=1, cache="nobody")
    assert [check["ok"] for check in report["checks"]] == [True, True, False] and "unknown key" in report["checks"][2]["says"]
    assert shelf.json("engine", "verify", "cpu.engine", cache="nobody")["ok"] is True
    (weights,) = [s for s in shelf.json("engine", "list", "cpu.engine")["sections"] if s["kind"] == "weights"]
    content = bytearray((shelf.folder / "cpu.engine").read_bytes())
    content[weights["at"]] ^= 1
    (shelf.folder / "weight.engine").write_bytes(content)
    (shelf.folder / "metadata.engine").write_bytes(bytes(content[:100]) + bytes([content[100] ^ 1]) + bytes(content[101:]))
    for file, check in (("weight.engine", "weights"), ("metadata.engine", "structure")):
        done = shelf.run("engine", "verify", file)
        assert done.returncode == 1 and f"BAD  {check}" in done.stdout, done.stdout
    shelf.fails(1, "engine", "verify", "missing.engine", says="missing.engine")
    shelf.fails(2, "engine", "verify", "m.onnx", says=["m.onnx", "no engine"])


def test_sign_with_a_key_for_releases(shelf):
    shelf.ok("engine", "keygen", "-o", "release.key")
    assert stat.S_IMODE((shelf.folder / "release.key").stat().st_mode) == 0o600
    shelf.fails(2, "engine", "keygen", "-o", "release.key", says="not overwritten")
    shelf.ok("engine", "sign", "m.engine", "--key", "release.key", "-o", "signed.engine")
    signatures = shelf.native("signed.engine")["signatures"]
    assert [s["by"] for s in signatures] == ["this user's own key", ""] and all(s["fits"] for s in signatures)
    cache = shelf.trusting("customer", "release.pub")
    assert shelf.ok("run", "signed.engine", "--input", "x=x.npy", cache=cache, LATHE_NVRTC="none").stderr == ""
    assert shelf.native("signed.engine", cache=cache)["signatures"][1]["by"] == "'release'"
    # In place, by whom it came to: that user's own key is made for it.
    shutil.copy(shelf.folder / "m.engine", shelf.folder / "own.engine")
    shelf.ok("engine", "sign", "own.engine", cache="auditor")
    assert shelf.native("own.engine", cache="auditor")["trust"] == "trusted"
    assert shelf.ok("run", "own.engine", "--input", "x=x.npy", cache="auditor", LATHE_NVRTC="none").stderr == ""
    shelf.fails(1, "engine", "sign", "plain.engine", says="no native code")
    os.chmod(shelf.folder / "release.key", 0o644)
    shelf.fails(1, "engine", "sign", "m.engine", "--key", "release.key", "-o", "no.engine", says=["release.key", "chmod 600"])
    os.chmod(shelf.folder / "release.pub", 0o600)
    shelf.fails(2, "engine", "sign", "m.engine", "--key", "release.pub", "-o", "no.engine", says="public half")
    assert not (shelf.folder / "no.engine").exists()


def test_strip(shelf):
    shelf.ok("engine", "strip", "m.engine", "-o", "bare.engine")
    assert shelf.native("bare.engine") is None and shelf.json("show", "bare.engine")["report"]["steps"] > 0
    assert (shelf.folder / "bare.engine").stat().st_size < (shelf.folder / "m.engine").stat().st_size
    shelf.ok("engine", "strip", "m.engine", "-o", "small.engine", "--report", "--keep-native")
    assert shelf.native("small.engine")["trust"] == "trusted" and "report" not in shelf.json("show", "small.engine")
    shelf.fails(2, "engine", "strip", "m.engine", "-o", "no.engine", "--device", "cuda:sm_80", says=["cuda:sm_80", "cuda:sm_90, cpu-generic"])
    shelf.fails(2, "engine", "strip", "m.onnx", says="no engine")
    assert not (shelf.folder / "no.engine").exists()


def test_merge(shelf):
    before = [(shelf.folder / name).stat().st_size for name in ("m.engine", "cpu.engine")]
    shelf.ok("engine", "merge", "m.engine", "cpu.engine", "-o", "both.engine")
    devices = [device["device"] for device in shelf.json("engine", "list", "both.engine")["devices"]]
    assert devices == ["cuda:sm_90", "cpu", "cpu-generic"]
    assert shelf.native("both.engine")["trust"] == "trusted" and shelf.json("engine", "verify", "both.engine")["ok"]
    assert (shelf.folder / "both.engine").stat().st_size < sum(before)
    x = np.load(shelf.folder / "x.npy")
    done = shelf.ok("run", "both.engine", "--input", "x=x.npy", "--device", "cpu", "-o", "y.npy")
    np.testing.assert_array_equal(np.load(shelf.folder / "y.npy"), models.relu_add_answer(x))
    done = shelf.ok("run", "both.engine", "--input", "x=x.npy", LATHE_CUDA_DRIVER="none")
    assert "runs on its section cpu (" in done.stderr and "needs an NVIDIA GPU" in done.stderr
    assert shelf.json("show", "both.engine", cache=shelf.trusting("merger"), LATHE_NVRTC="none")["section"].startswith("cuda:sm_90")
    # And apart again.
    shelf.ok("engine", "strip", "both.engine", "-o", "apart.engine", "--device", "cpu")
    shelf.ok("run", "apart.engine", "--input", "x=x.npy", "-o", "z.npy", LATHE_CUDA_DRIVER="none")
    np.testing.assert_array_equal(np.load(shelf.folder / "z.npy"), np.load(shelf.folder / "y.npy"))

    shelf.fails(2, "engine", "merge", "cpu.engine", "cpu.engine", "-o", "no.engine", says="both have a program for cpu")
    shelf.fails(2, "engine", "merge", "cpu.engine", "-o", "no.engine", says="one engine alone")
    shelf.fails(2, "engine", "merge", "m.engine", "cpu.engine", "-o", "cpu.engine", says="replace the input")
    shelf.ok("build", "m.onnx", "-o", "fixed.engine", "--shape", "x:2x4", *QUICK)
    shelf.fails(2, "engine", "merge", "m.engine", "fixed.engine", "-o", "no.engine", says=["different graphs", "fixed.engine"])
    assert not (shelf.folder / "no.engine").exists()


def test_keys_by_hand(shelf):
    digits = (shelf.folder / "me.pub").read_text().split()[1]
    shelf.ok("engine", "trust", digits, "--name", "by-digits", cache="hand")
    assert shelf.json("engine", "trust", "--list", cache="hand")["trusted"] == [{"name": "by-digits", "key": digits}]
    (shelf.folder / "junk.pub").write_text("junk")
    shelf.fails(2, "engine", "trust", "junk.pub", cache="hand", says=["junk.pub", "no public key"])
    shelf.fails(2, "engine", "trust", "me.pub", "--name", "../up", cache="hand", says="no name for a key")
    shelf.fails(1, "engine", "trust", "missing.pub", cache="hand", says="missing.pub")
    shelf.fails(2, "engine", "trust", cache="hand", says="--list")
    shelf.fails(2, "engine", "trust", "--remove", "nobody", cache="hand", says="nobody")
    shelf.fails(2, "engine", says="engine --help")


def test_a_build_without_a_place_for_keys_says_so(shelf):
    (shelf.folder / "blocked").mkdir()
    (shelf.folder / "blocked" / "keys").write_text("no folder")
    done = shelf.ok("build", "m.onnx", "-o", "unsigned.engine", "--device", "cuda", *BUILD, cache="blocked")
    assert "stays unsigned" in done.stderr
    assert shelf.native("unsigned.engine")["trust"] == "unsigned"
    assert "native code ignored: it is not signed" in shelf.ok("run", "unsigned.engine", "--input", "x=x.npy").stderr
    shelf.ok("engine", "sign", "unsigned.engine")
    assert shelf.ok("run", "unsigned.engine", "--input", "x=x.npy", LATHE_NVRTC="none").stderr == ""


def test_from_python(shelf, monkeypatch):
    import lathe

    engine = lathe.load(shelf.folder / "cpu.engine")
    assert engine.native_code == ""
    for name in sorted((shelf.folder).glob("*.engine")):
        if name.name not in ("metadata.engine",):
            assert lathe.load(name, device="cpu").native_code == ""
