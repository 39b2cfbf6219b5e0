"""The measurement of the page runs. The figures depend on the machine."""

import re
import subprocess
import sys

from tests.conftest import REPOSITORY


def test_page_is_measured_with_outlines(browser):
    options = ['--outlines', '200', '--corners', '20', '--moves', '5']
    ended = subprocess.run(
        [sys.executable, '-m', 'benchmarks.page', *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert re.search(r'First picture: \d+\.\d\d to \d+\.\d\d s, 5 loads', ended.stdout)
    assert re.search(r'Moving the image with 200 outlines: \d+ pictures per second', ended.stdout)
    assert re.search(r'Moving the slider with 200 outlines: \d+ ms', ended.stdout)
