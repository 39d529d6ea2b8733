"""Where a sequence stands: what its next step needs to know of it, and what may follow."""

from .candidates import (
    FIRST,
    SEED_HIGH,
    SEED_LOW,
    TIMESTAMP_BEGIN,
    TIMESTAMP_FIRST,
    TIMESTAMP_STOP,
    WATCH,
    WATCH_STOP,
    WEIGH,
)
from .tile import Ints

comptime NEVER_BEGINS = Int32(1 << 30)  # where a vocabulary's timestamps begin if they are ordinary tokens

# Columns of a row of `starts`.
comptime TOKEN = 0
comptime ROW = 1
comptime POSITION = 2
comptime WINDOW = 3
comptime BEFORE = 4  # the token sampled before `TOKEN`; a timestamp where there is none
comptime STAMP = 5  # the latest timestamp sampled, or -1
comptime BEGIN = 6  # where timestamps begin, or NEVER_BEGINS: then their rules are not applied
comptime END = 7  # the token that ends a text
comptime STARTS = 8


def limit(limits: Ints, start: Ints, low: Int32, high: Int32):
    """What the next token may be: `ApplyTimestampRules` of `decoding/rules.py`, after the first token."""
    var begin = start[unsafe_offset=BEGIN]
    var end = start[unsafe_offset=END]
    var last = start[unsafe_offset=TOKEN]
    limits[unsafe_offset=FIRST] = 0
    limits[unsafe_offset=TIMESTAMP_BEGIN] = begin
    limits[unsafe_offset=TIMESTAMP_FIRST] = 0
    limits[unsafe_offset=TIMESTAMP_STOP] = NEVER_BEGINS
    limits[unsafe_offset=WEIGH] = 0
    limits[unsafe_offset=WATCH] = -1
    limits[unsafe_offset=SEED_LOW] = low
    limits[unsafe_offset=SEED_HIGH] = high
    limits[unsafe_offset=WATCH_STOP] = NEVER_BEGINS
    if begin == NEVER_BEGINS:
        return
    limits[unsafe_offset=WEIGH] = 1
    if last < begin:
        limits[unsafe_offset=TIMESTAMP_FIRST] = start[unsafe_offset=STAMP] + 1
    elif start[unsafe_offset=BEFORE] >= begin:
        limits[unsafe_offset=TIMESTAMP_STOP] = begin
    else:
        limits[unsafe_offset=FIRST] = end
        limits[unsafe_offset=TIMESTAMP_FIRST] = last


def advance(start: Ints, token: Int32):
    """Takes a chosen token into account."""
    start[unsafe_offset=BEFORE] = start[unsafe_offset=TOKEN]
    start[unsafe_offset=TOKEN] = token
    start[unsafe_offset=POSITION] += 1
    if token >= start[unsafe_offset=BEGIN]:
        start[unsafe_offset=STAMP] = token


def has_ended_segment(start: Ints) -> Bool:
    """Whether the latest token is a timestamp after text."""
    var begin = start[unsafe_offset=BEGIN]
    return start[unsafe_offset=TOKEN] >= begin and start[unsafe_offset=BEFORE] < begin
