"""A child process that never outlives the test: started, watched, measured, killed."""

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
POLL_SECONDS = 0.01

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    """Runs in the child: the kernel kills it when the test run ends in any way."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(condition, seconds, what):
    """Polls `condition` until it gives something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(POLL_SECONDS)


class Process:
    """One running program with its output in files, so that no pipe can ever fill up."""

    def __init__(self, arguments, folder, name, env=None, user=None):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.stdout_path = folder / f"{name}.stdout"
        self.stderr_path = folder / f"{name}.stderr"
        environment = dict(os.environ, **(env or {}))
        with open(self.stdout_path, "wb") as out, open(self.stderr_path, "wb") as err:
            self.child = subprocess.Popen(
                [str(argument) for argument in arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                user=user,
                preexec_fn=die_with_parent,
            )

    @property
    def pid(self):
        return self.child.pid

    def stdout(self):
        return self.stdout_path.read_text(errors="replace")

    def stderr(self):
        return self.stderr_path.read_text(errors="replace")

    def running(self):
        return self.child.poll() is None

    def wait_for(self, condition, seconds, what):
        """Like `wait_until`, but an early exit of the process fails at once, with its last words."""

        def check():
            got = condition()
            if not got and not self.running():
                raise RuntimeError(f"{what}: exited with {self.child.returncode}: {self.stderr()[-2000:]}")
            return got

        return wait_until(check, seconds, what)

    def kill(self):
        """`kill -9`, and the wait that makes its ports and files free again."""
        if self.running():
            self.child.kill()
        self.child.wait()

    def terminate(self, seconds=60):
        """Asks for a clean stop and returns the exit status."""
        if self.running():
            self.child.terminate()
        return self.child.wait(seconds)

    def cpu_seconds(self):
        """User and system time used so far, all threads, also those that ended."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def rss_bytes(self):
        """Resident memory now."""
        return self._status_bytes("VmRSS")

    def rss_peak_bytes(self):
        """The most resident memory since the start or since `forget_rss_peak`."""
        return self._status_bytes("VmHWM")

    def forget_rss_peak(self):
        """The peak is from now on that of what follows."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _status_bytes(self, key):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"no {key}: the process has ended")
