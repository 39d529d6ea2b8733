"""The most that this processor's cores do in products of registers, and read from memory: ``peak THREADS``.

Products are those that the kernels' tiles are made of, on all threads at once, with every operand in
a register: what is left is the rate of the instructions. Prints JSON: operations a second
(multiplications and additions) of each precision, in the type that its words are multiplied in here,
and bytes read in a second. All are the best of many rounds.
"""

from std.collections import Array
from std.memory.alloc import unsafe_alloc
from std.sys import argv
from std.sys.info import CompilationTarget
from std.sys.intrinsics import inlined_assembly
from std.time import perf_counter_ns

from kernels.team import Team, Work, start_team
from kernels.tile import Ints, WIDTH, Words, added_up, dot, multiplied, products_of_bytes, step

# Sums on the way at once: more than a core can begin before the first is done, with registers to spare.
comptime CHAINS = 24 if CompilationTarget.has_avx512f() else 12
comptime TURNS = 25_000
comptime ROUNDS = 200  # of a few milliseconds: some of them find nothing else at work
comptime TASKS = 8  # of each thread in a round: one that comes late leaves some to the others
comptime SWEPT = 512 * 1024 * 1024  # bytes: far more than the caches hold
comptime PART = SWEPT // 8  # is read at a time, one after the other: little enough to be undisturbed
comptime SWEEPS = 16


@always_inline
def unknown(x: Words) -> Words:
    """The same words, about which the compiler knows nothing: not that products are the same, or zero."""
    return inlined_assembly["", Words, constraints="=v,0"](x)


@fieldwise_init
struct Products[kind: StaticString](Work):
    """Chains of additions of products."""

    var results: Ints

    def run(self, task: Int):
        var sums = Array[Words, CHAINS](fill=Words(0))
        # Zeros of every type: sums stay numbers.
        var a = Words(0)
        var b = unknown(Words(0))
        for _ in range(TURNS):
            comptime for i in range(CHAINS):
                comptime if Self.kind == "bounded":
                    sums[i] += added_up(products_of_bytes(unknown(a), b) + products_of_bytes(unknown(a), b))
                else:
                    sums[i] = dot[Self.kind](sums[i], unknown(a), b)
        var total = Words(0)
        comptime for i in range(CHAINS):
            total += sums[i]
        self.results.unsafe_store(task * WIDTH, total)


@fieldwise_init
struct Reading(Work):
    """A share of a part of memory, read once."""

    var memory: Ints
    var results: Ints
    var tasks: Int

    def run(self, task: Int):
        comptime VECTORS = 8
        var share = PART // 4 // self.tasks
        var start = self.memory.unsafe_offset(task * share)
        var sums = Array[Words, VECTORS](fill=Words(0))
        for i in range(0, share, VECTORS * WIDTH):
            comptime for v in range(VECTORS):
                sums[v] ^= start.unsafe_load[width=WIDTH](i + v * WIDTH)
        var total = Words(0)
        comptime for v in range(VECTORS):
            total ^= sums[v]
        self.results.unsafe_store(task * WIDTH, total)


def fastest[W: Work](work: W, tasks: Int, team: Team, rounds: Int) -> Float64:
    """The least seconds of several rounds."""
    var best = Float64.MAX
    for _ in range(rounds):
        var start = perf_counter_ns()
        team.do(work, tasks)
        best = min(best, Float64(perf_counter_ns() - start) / 1e9)
    return best


def rate[kind: StaticString](results: Ints, team: Team) -> Float64:
    """Operations a second."""
    var tasks = TASKS * team.threads
    comptime joined = 2 if kind == "bounded" else 1  # words whose products a sum takes at once
    var operations = 2 * joined * step[kind]() * WIDTH * CHAINS * TURNS * tasks
    return Float64(operations) / fastest(Products[kind](results), tasks, team, ROUNDS)


def main() raises:
    var threads = Int(argv()[1])
    var team = Team(start_team(threads), threads)
    var results = unsafe_alloc[Int32](TASKS * threads * WIDTH, alignment=64)
    var memory = unsafe_alloc[Int32](SWEPT // 4, alignment=64)
    for i in range(0, SWEPT // 4, WIDTH):
        memory.unsafe_store(i, Words(1))
    print('{"float32":', rate["float32"](results, team))
    print(', "bfloat16":', rate[multiplied["bfloat16"]()](results, team))
    print(', "int8":', rate[multiplied["bounded"]()](results, team))
    var tasks = TASKS * threads
    var seconds = Float64.MAX
    for i in range(SWEEPS * SWEPT // PART):
        var part = memory.unsafe_offset(i % (SWEPT // PART) * (PART // 4))
        seconds = min(seconds, fastest(Reading(part, results, tasks), tasks, team, 1))
    print(', "memory":', Float64(PART) / seconds, "}")
