"""How the ops reach the memory of their tensors, and the team."""

from .team import Team

from extensibility import InputTensor


def untracked[T: AnyType](pointer: Pointer[T, _]) -> Pointer[T, MutUntrackedOrigin]:
    """The kernels take parts of one tensor as separate arguments, which origins would forbid."""
    return pointer.unsafe_mut_cast[True]().unsafe_origin_cast[MutUntrackedOrigin]()


def reached(team: InputTensor[dtype=DType.int64, rank=1, ...]) -> Team:
    """The team that the caller of the graph gives it: an address, and how many threads."""
    var values = team.unsafe_ptr()
    return Team(Int(values[unsafe_offset=0]), max(1, Int(values[unsafe_offset=1])))


comptime f32 = DType.float32
comptime i32 = DType.int32
