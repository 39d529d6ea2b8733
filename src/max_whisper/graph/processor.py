"""This processor's instruction sets, and the processor families that graphs are compiled for.

A family is a processor that LLVM knows by name. Its features are those that the compiler may take
instructions from: what ``mojo build --target-cpu FAMILY --print-effective-target`` prints, and a
test holds them to that.
"""

from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# LLVM's names. Each set is another and what LLVM adds to it.
_V2 = _names("cmov cx8 fxsr mmx sse sse2 x87 crc32 cx16 popcnt sahf sse3 sse4.1 sse4.2 ssse3")
_V3 = _V2 | _names("avx avx2 bmi bmi2 f16c fma lzcnt movbe xsave")
_ALDERLAKE = _V3 | _names(
    "adx aes avxvnni clflushopt clwb fsgsbase gfni hreset invpcid kl movdir64b movdiri pclmul pconfig pku "
    "prfchw ptwrite rdpid rdrnd rdseed serialize sgx sha shstk vaes vpclmulqdq waitpkg widekl xsavec "
    "xsaveopt xsaves"
)
_V4 = _V3 | _names("avx512bw avx512cd avx512dq avx512f avx512vl")
_CASCADELAKE = _V4 | _names(
    "adx aes avx512vnni clflushopt clwb fsgsbase invpcid pclmul pku prfchw rdrnd rdseed xsavec xsaveopt "
    "xsaves"
)
_COOPERLAKE = _CASCADELAKE | _names("avx512bf16")
_ZNVER4 = (_COOPERLAKE - _names("cmov")) | _names(
    "avx512bitalg avx512ifma avx512vbmi avx512vbmi2 avx512vpopcntdq clzero gfni mwaitx rdpid rdpru sha shstk "
    "sse4a vaes vpclmulqdq wbnoinvd"
)

#: Instructions that LLVM emits for an intrinsic of their own and in no other case: caches, timers,
#: random numbers, keys, enclaves, the state of threads. No kernel asks for one, and hypervisors hide
#: several, so a processor need not have them.
ON_REQUEST = _names(
    "clflushopt clwb clzero fsgsbase hreset invpcid kl movdir64b movdiri mwaitx pconfig pku ptwrite rdpid "
    "rdpru rdrnd rdseed serialize sgx shstk waitpkg wbnoinvd widekl xsavec xsaveopt xsaves"
)

#: Linux's names, those of ``/proc/cpuinfo``, where they are not LLVM's: the kernel's
#: ``cpufeatures.h``.
_LINUX_NAMES = {
    "avx512bf16": "avx512_bf16",
    "avx512bitalg": "avx512_bitalg",
    "avx512vbmi2": "avx512_vbmi2",
    "avx512vnni": "avx512_vnni",
    "avx512vpopcntdq": "avx512_vpopcntdq",
    "avxvnni": "avx_vnni",
    "bmi": "bmi1",
    "crc32": "sse4_2",
    "lzcnt": "abm",
    "pclmul": "pclmulqdq",
    "prfchw": "3dnowprefetch",
    "sahf": "lahf_lm",
    "sha": "sha_ni",
    "sse3": "pni",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    "x87": "fpu",
}


@dataclass(frozen=True)
class Family:
    """A processor family.

    Attributes:
        name: LLVM's name of it, which :func:`max.driver.set_virtual_cpu_target` takes.
        compiled: What its code is compiled for, by LLVM's names.
    """

    name: str
    compiled: frozenset[str]

    @property
    def needs(self) -> frozenset[str]:
        """What a processor must have to run its code, by the names of ``/proc/cpuinfo``."""
        return frozenset(_LINUX_NAMES.get(name, name) for name in self.compiled - ON_REQUEST)


#: From the plainest to the one with most instructions. What the kernels take of them
#: (``kernels/tile.mojo``): 8 numbers in a register, everything widened; the same with integer
#: products (``vpdpbusd``); 16 numbers, widened; with integer products; and with bfloat16 products
#: (``vdpbf16ps``) for the last two. Code for ``cooperlake`` runs on Intel's Sapphire Rapids and
#: later too; ``znver4`` has instructions of AMD's own and LLVM's schedule for its cores.
FAMILIES = (
    Family("x86-64-v3", _V3),
    Family("alderlake", _ALDERLAKE),
    Family("x86-64-v4", _V4),
    Family("cascadelake", _CASCADELAKE),
    Family("cooperlake", _COOPERLAKE),
    Family("znver4", _ZNVER4),
)


def runnable_families(has: Set[str] | None = None) -> list[Family]:
    """The families whose code a processor can run, the one with most instructions first.

    Args:
        has: The processor's features; those of this one if None.
    """
    has = features() if has is None else has
    return [family for family in reversed(FAMILIES) if family.needs <= has]


def adds_in_int16(family: str | None = None) -> bool:
    """Whether the kernels for a family, or this processor, add products of bytes up in int16."""
    families = [family] if family else [each.name for each in runnable_families()]
    return families[:1] == [FAMILIES[0].name]


@functools.cache
def features() -> frozenset[str]:
    """The instruction sets of this processor, as ``/proc/cpuinfo`` names them."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in {"flags", "Features"}:
                return frozenset(value.split())
    return frozenset()


@functools.cache
def processor() -> str:
    """The processor's architecture and instruction sets, as text."""
    names = " ".join(sorted(features())) or platform.processor()
    return f"{platform.system()} {platform.machine()} {names}"
