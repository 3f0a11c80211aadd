"""The demo, as a newcomer sees it."""

import re
import time

from harness import tools
from harness.broker import esker_binary

SECONDS_MAX = 30


def test_the_demo_ends_in_time_and_has_verified_hot_and_cold_reads(tmp_path):
    began = time.monotonic()
    out = tools.run([esker_binary(), "demo"], seconds=2 * SECONDS_MAX, cwd=tmp_path).stdout.decode()
    assert time.monotonic() - began <= SECONDS_MAX
    for tier in ("hot", "cold"):
        assert re.search(rf"{tier}.*verified|verified.*{tier}", out, re.IGNORECASE), out
    assert not list(tmp_path.iterdir()), "the demo leaves nothing behind"
