from fewshot.tally import Tally, count


def test_the_last_message_tells_the_range_of_what_was_kept_beside_that_of_the_examples():
    tally = Tally(frames=2, kept=8, rivalled=4, doubles=3, known=2)
    tally.note_uploaded([0.912, 0.87])
    tally.note_uploaded([])
    tally.note_uploaded([0.95])
    assert tally.describe([0.9, 0.96]) == (
        '3 objects in 2 frames, similarity 0.87 to 0.95; the examples among themselves 0.90 to 0.96. Left out: 4 more '
        'like a counter-example, 3 found twice, 2 already there.')
    assert Tally(frames=1).describe([]) == '0 objects in 1 frame'


def test_where_nothing_was_found_every_candidate_is_accounted_for():
    tally = Tally(candidates=20, in_area=12, unlike=7, rivalled=5, highest=0.8765)
    assert tally.explain_nothing(0.9) == ('20 candidates: 8 outside the area limits, 7 less similar than 0.9, 5 more '
                                          'like a counter-example. The highest similarity was 0.876.')
    assert Tally(candidates=3).explain_nothing(0.5) == ('3 candidates: 3 outside the area limits, 0 less similar than '
                                                        '0.5.')


def test_things_are_counted_in_words():
    assert [count(number, 'frame') for number in (0, 1, 2)] == ['0 frames', '1 frame', '2 frames']
