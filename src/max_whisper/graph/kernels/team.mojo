"""A team of threads that take the tasks of one piece of work after the other.

A decoding step has some fifty pieces of work of a few microseconds each. The team's threads stay
awake between them for a while, and whoever starts a piece of work takes tasks as well and waits
for none that another thread has not begun: a thread that comes late, or not at all because its
core is busy, costs nothing.
"""

from std.atomic import Atomic
from std.ffi import external_call
from std.memory.alloc import unsafe_alloc
from std.sys.info import CompilationTarget
from std.sys.intrinsics import llvm_intrinsic

comptime Raw = Pointer[UInt8, MutUntrackedOrigin]
comptime Task = def(Raw, Int) thin -> None

comptime SPINS = 20_000  # looks for new work before a thread goes to sleep: some hundred microseconds
# A ticket holds which piece of work it is (from bit 40 on), its tasks (20 bits) and the next task.
comptime FIELD = 20
comptime MASK = (1 << FIELD) - 1


trait Work:
    """Something that is done in independent tasks."""

    def run(self, task: Int):
        """Does one task."""
        ...


struct Shared(Movable):
    """What the threads of a team share.

    Fields:
        ticket: Work, tasks and next task in one, so that a task is never taken for other work.
        finished: How many tasks of this work are done.
        task: What does a task.
        context: Its first argument.
        owned: 1 while somebody's work is being done.
        sleepers: How many threads are asleep, or about to be.
        alarm: Changed to wake them.
    """

    var ticket: Atomic[Int64]
    var _space: SIMD[DType.int64, 8]  # what workers poll lies in a cache line of its own
    var finished: Atomic[Int64]
    var task: Task
    var context: Raw
    var owned: Atomic[Int64]
    var sleepers: Atomic[Int64]
    var alarm: Atomic[Int32]

    def __init__(out self):
        self.ticket = Atomic[Int64](0)
        self._space = SIMD[DType.int64, 8](0)
        self.finished = Atomic[Int64](0)
        self.task = nothing
        self.context = Raw(unsafe_from_address=1)
        self.owned = Atomic[Int64](0)
        self.sleepers = Atomic[Int64](0)
        self.alarm = Atomic[Int32](0)


comptime SharedPointer = Pointer[Shared, MutUntrackedOrigin]


def nothing(context: Raw, task: Int):
    pass


def run_task[W: Work](context: Raw, task: Int):
    context.unsafe_bitcast[W]()[].run(task)


@always_inline
def take(shared: SharedPointer) -> Bool:
    """Does one task of the present work, if one is left."""
    if not left(shared[].ticket.load()):
        return False
    var ticket = shared[].ticket.fetch_add(1)
    if not left(ticket):
        return False
    shared[].task(shared[].context, Int(ticket) & MASK)
    _ = shared[].finished.fetch_add(1)
    return True


@always_inline
def left(ticket: Int64) -> Bool:
    return (Int(ticket) & MASK) < (Int(ticket) >> FIELD & MASK)


@always_inline
def pause():
    comptime if CompilationTarget.is_x86():
        llvm_intrinsic["llvm.x86.sse2.pause", NoneType]()
    else:
        llvm_intrinsic["llvm.aarch64.hint", NoneType](Int32(1))  # yield


def member(context: Raw) -> Raw:
    """A thread of the team: works, waits, sleeps, for as long as the process lives."""
    var shared = context.unsafe_bitcast[Shared]()
    var looks = 0
    while True:
        if take(shared):
            looks = 0
            continue
        looks += 1
        if looks < SPINS:
            pause()
            continue
        looks = 0
        var alarm = shared[].alarm.load()
        _ = shared[].sleepers.fetch_add(1)
        if not left(shared[].ticket.load()):
            futex(shared, 128, alarm)  # FUTEX_WAIT_PRIVATE: returns at once if the alarm has changed
        _ = shared[].sleepers.fetch_sub(1)


def futex(shared: SharedPointer, operation: Int, value: Int32):
    """Linux's futex on the alarm."""
    comptime SYSTEM_CALL = 202 if CompilationTarget.is_x86() else 98  # aarch64
    _ = external_call["syscall", Int](
        SYSTEM_CALL, Pointer(to=shared[].alarm), operation, Int(value), 0, 0, 0
    )


def start_team(threads: Int) -> Int:
    """Starts the threads but for the caller's own, and returns the team's address."""
    var shared = unsafe_alloc[Shared](1, alignment=64)
    shared.unsafe_write(Shared())
    var handle = unsafe_alloc[Int](1)
    for _ in range(threads - 1):
        if external_call["pthread_create", Int32](handle, Int(0), member, shared) == 0:
            _ = external_call["pthread_detach", Int32](handle[])
    handle.unsafe_free()
    return Int(shared)


@fieldwise_init
struct Team(ImplicitlyCopyable, Movable):
    """How an op reaches the team: its address, and how many threads there are."""

    var address: Int
    var threads: Int

    def do[W: Work](self, work: W, tasks: Int):
        """Does tasks 0 to `tasks` - 1 of a piece of work, and returns when all are done."""
        if tasks <= 0:
            return
        var shared = SharedPointer(unsafe_from_address=self.address)
        var free = Int64(0)
        # A team that is busy with another model's work leaves the caller to do its own.
        if self.threads == 1 or tasks == 1 or not shared[].owned.compare_exchange(free, 1):
            for task in range(tasks):
                work.run(task)
            return
        shared[].task = run_task[W]
        shared[].context = Pointer(to=work).unsafe_bitcast[UInt8]().unsafe_mut_cast[True]().unsafe_origin_cast[MutUntrackedOrigin]()
        shared[].finished.store(0)
        var number = (Int(shared[].ticket.load()) >> (2 * FIELD)) + 1
        shared[].ticket.store(Int64(number << (2 * FIELD) | tasks << FIELD))
        if shared[].sleepers.load() > 0:
            _ = shared[].alarm.fetch_add(1)
            futex(shared, 129, Int32.MAX)  # FUTEX_WAKE_PRIVATE
        while take(shared):
            pass
        while Int(shared[].finished.load()) < tasks:
            pause()
        shared[].owned.store(0)
