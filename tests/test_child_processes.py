from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from tests.child_processes import finished

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session={alone})
print(child.pid, flush=True)
{rest}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the descendants of an ended process cannot be found there")
@pytest.mark.parametrize(("alone", "rest"), [(False, "child.wait()"), (True, "child.wait()"), (False, "")])
def test_descendants_end_at_the_timeout(alone: bool, rest: str) -> None:
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        finished([sys.executable, "-c", PARENT.format(alone=alone, rest=rest)], timeout=3)
    assert time.monotonic() - began < 30
    number = int(caught.value.output)
    for _ in range(100):  # whoever adopted it may take a moment to collect it
        if not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the descendant is still running")


def test_what_a_process_prints_and_its_status() -> None:
    done = finished([sys.executable, "-c", "import sys; print('a'); sys.exit('b')"], text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "a\n", "b\n")
