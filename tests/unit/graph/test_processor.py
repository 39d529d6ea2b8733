"""Which family's code a processor may run. The flags are those that Linux shows of such machines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from max_whisper.graph.processor import FAMILIES, ON_REQUEST, runnable_families


def flags(text):
    return set(text.split())


SSE = flags("fpu cx8 cmov mmx fxsr sse sse2 pni ssse3 cx16 sse4_1 sse4_2 popcnt xsave lahf_lm")
HASWELL = SSE | flags("fma movbe aes avx f16c rdrand abm bmi1 avx2 bmi2 pclmulqdq")
ZEN3 = HASWELL | flags("sse4a 3dnowprefetch adx sha_ni clzero vaes vpclmulqdq rdpid rdseed")
RAPTOR_LAKE = HASWELL | flags("avx_vnni 3dnowprefetch adx gfni rdpid rdseed serialize sha_ni vaes vpclmulqdq")
SKYLAKE_X = HASWELL | flags("3dnowprefetch adx avx512f avx512dq avx512cd avx512bw avx512vl")
CASCADE_LAKE = SKYLAKE_X | {"avx512_vnni"}
SAPPHIRE_RAPIDS = CASCADE_LAKE | flags(
    "avx_vnni avx512_bf16 avx512ifma sha_ni avx512vbmi avx512_vbmi2 gfni vaes vpclmulqdq avx512_bitalg "
    "avx512_vpopcntdq rdpid amx_bf16 avx512_fp16 amx_tile amx_int8"
)
# A virtual machine on Zen 5, whose hypervisor hides pku, rdseed, mwaitx, rdpru and shadow stacks.
ZEN5 = (SAPPHIRE_RAPIDS | ZEN3 | {"avx512_vp2intersect"}) - {
    "amx_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "rdseed",
}
GRAVITON = flags("fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop")


@pytest.mark.parametrize(
    ("has", "families"),
    [
        pytest.param(SSE, [], id="SSE"),
        pytest.param(HASWELL, ["x86-64-v3"], id="Haswell"),
        pytest.param(ZEN3, ["x86-64-v3"], id="Zen 3"),
        pytest.param(RAPTOR_LAKE, ["alderlake", "x86-64-v3"], id="Raptor Lake"),
        pytest.param(SKYLAKE_X, ["x86-64-v4", "x86-64-v3"], id="Skylake-X"),
        pytest.param(CASCADE_LAKE, ["cascadelake", "x86-64-v4", "x86-64-v3"], id="Cascade Lake"),
        pytest.param(
            SAPPHIRE_RAPIDS,
            ["cooperlake", "cascadelake", "x86-64-v4", "alderlake", "x86-64-v3"],
            id="Sapphire Rapids",
        ),
        pytest.param(
            ZEN5,
            ["znver4", "cooperlake", "cascadelake", "x86-64-v4", "alderlake", "x86-64-v3"],
            id="Zen 5",
        ),
        pytest.param(GRAVITON, [], id="ARM"),
        pytest.param(set(), [], id="nothing known"),
    ],
)
def test_families_of_a_processor(has, families):
    assert [family.name for family in runnable_families(has)] == families


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_missing_instruction_set_rules_a_family_out(family):
    assert family in runnable_families(family.needs)
    for feature in family.needs:
        assert family not in runnable_families(family.needs - {feature})


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_families_are_compiled_for_what_the_compiler_says(family):
    mojo = Path(sys.executable).with_name("mojo")
    command = [str(mojo), "build", "--target-cpu", family.name, "--print-effective-target"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    told = printed[printed.index("--target-features") + 1].split(",")
    assert family.compiled == {name[1:] for name in told if name.startswith("+")}


def test_what_comes_on_request_alone_computes_nothing():
    """Nothing that a compiler could put into arithmetic, moves or shuffles of its own accord."""
    computing = ("sse", "avx", "amx", "fma", "bmi", "aes", "sha1", "gfni", "vaes", "vpcl", "pclmul", "adx")
    assert not [name for name in ON_REQUEST if name.startswith(computing)]
    assert not ON_REQUEST & {"sha", "cmov", "f16c", "lzcnt", "movbe", "popcnt", "prfchw", "crc32"}
