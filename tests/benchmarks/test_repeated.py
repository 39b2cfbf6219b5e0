"""The comparison of a second run with the first, on a small frame."""

import pytest

from benchmarks import repeated
from fewshot.sam.checkpoints import VIT_B


def test_second_run_finds_what_a_fresh_run_finds(capsys):
    problems = repeated.measure(80, 16, with_real_sizes=False)
    assert 'The second run differs from a fresh one.' not in problems
    line, same = capsys.readouterr().out.splitlines()
    assert line.startswith('80×80, 16 points per side: ')
    assert same == 'A fresh run finds the same.'


def test_exceeded_limit_is_a_failure(capsys):
    with pytest.raises(SystemExit, match='takes 5 s'):
        repeated.main(lambda: ['The second run takes 5 s.'])
    repeated.main(lambda: [])
    assert 'within the limits' in capsys.readouterr().out


def test_a_job_gets_the_checkpoint_that_was_written_for_it():
    assert repeated.read_checkpoint(repeated.write_checkpoint(VIT_B, 32.5)) == (VIT_B, 32.5)
