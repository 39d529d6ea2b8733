from __future__ import annotations

import numpy as np
import pytest

from max_whisper.decoding.runtime import Constraint
from max_whisper.decoding.search import Beam, Hypothesis, Sampling, most_likely, place

EOT = 9


def step(search, *rows):
    """Hands the search candidates, (id, log-probability) pairs for each live sequence."""
    tokens = np.array([[token for token, _ in row] for row in rows], np.int32)
    logprobs = np.array([[logprob for _, logprob in row] for row in rows], np.float32)
    return list(search.update(tokens, logprobs))


def test_greedy_counts_the_end_of_the_text_and_stops():
    search = Sampling(EOT)
    assert step(search, [(3, -0.5)]) == [0]
    assert not search.done
    step(search, [(EOT, -0.25)])
    assert search.done
    (found,) = search.hypotheses()
    assert (found.tokens, found.logprob) == ([3], -0.75)
    assert [choice.logprob for choice in found.choices()] == [-0.5, -0.25]


def test_a_finished_draw_takes_no_further_part():
    search = Sampling(EOT, size=3, temperature=1.0, seed=5)
    assert step(search, [(1, -1.0)], [(EOT, -2.0)], [(3, -3.0)]) == [0, 2]
    assert search.live == [[1], [3]]
    assert step(search, [(EOT, -1.0)], [(4, -1.0)]) == [1]
    assert step(search, [(EOT, -1.0)]) == []
    assert search.done
    found = search.hypotheses()
    assert [(one.tokens, one.logprob) for one in found] == [([1], -2.0), ([], -2.0), ([3, 4], -5.0)]
    assert [[choice.sequence for choice in one.choices()] for one in found] == [[0, 0], [1], [2, 1, 0]]


def test_the_seed_of_a_draw_stays_with_its_sequence():
    def seeds(search):
        return [search.constrain(Constraint(), i).seed for i in range(len(search.live))]

    alone, other = Sampling(EOT, 3, 1.0, seed=5), Sampling(EOT, 3, 1.0, seed=5)
    assert len(set(seeds(alone))) == 3
    step(alone, [(1, -1.0)], [(2, -1.0)], [(3, -1.0)])
    step(other, [(EOT, -1.0)], [(2, -1.0)], [(3, -1.0)])
    assert seeds(other) == seeds(alone)[1:]


def test_beams_keep_the_best_continuations_and_tell_their_parents():
    search = Beam(EOT, size=2)
    assert step(search, [(1, -1.0), (2, -2.0), (3, -3.0)]) == [0, 0]
    assert search.live == [[1], [2]]
    parents = step(search, [(4, -3.0), (5, -3.5), (6, -9.0)], [(7, -0.5), (8, -0.6), (6, -9.0)])
    assert parents == [1, 1]
    assert search.live == [[2, 7], [2, 8]]


def test_a_search_waits_for_as_many_ends_as_patience_asks_for():
    for patience, ends in [(None, 2), (2.0, 4), (0.5, 1)]:
        search = Beam(EOT, size=2, patience=patience)
        step(search, [(1, -1.0), (2, -2.0), (3, -3.0)])
        count = 0
        while not search.done:
            count += 1
            step(search, [(EOT, -0.1), (4, -1.0), (5, -2.0)], [(6, -7.0), (7, -8.0), (8, -9.0)])
        assert count == ends
        assert len(search.hypotheses()) == max(2, ends)


def test_unfinished_beams_fill_up_best_first():
    search = Beam(EOT, size=3)
    step(search, [(1, -1.0), (EOT, -1.5), (2, -2.0), (3, -3.0)])
    assert [found.tokens for found in search.hypotheses()] == [[], [1], [2]]


def test_of_equal_scores_the_first_is_likeliest():
    two, three, other = (Hypothesis(*one, None) for one in (([1, 2], -2.0), ([1, 2, 3], -2.0), ([3], -1.0)))
    assert most_likely([two, other], None) is two
    assert most_likely([three, other], None) is three
    assert most_likely([three, other], 0.0) is other


def test_nothing_moves_where_no_row_has_two_children():
    assert place([2, 0, 1], (0, 1, 2)) == ((2, 0, 1), [])
    assert place([4], (4, 5)) == ((4,), [])


def test_second_children_move_to_rows_that_nobody_wants():
    assert place([7, 7, 5], (5, 6, 7)) == ((7, 6, 5), [(6, 7)])


def test_all_children_of_a_prompt_find_rows():
    assert place([0, 0, 0], (0, 1, 2)) == ((0, 1, 2), [(1, 0), (2, 0)])


@pytest.mark.parametrize("penalty", [None, 0.0, 1.0])
def test_an_empty_hypothesis_can_be_ranked(penalty):
    empty = Hypothesis([], -0.5, None)
    assert most_likely([empty], penalty) is empty
