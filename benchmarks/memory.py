"""Peak memory of a running process, where the system tells (Linux)."""

from pathlib import Path


def status(pid: int | str, field: str) -> float | None:
    """Read a field of ``/proc/<pid>/status`` in MiB."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None


class PeakMeter:
    """MiB that a process took on top of what it held when the meter was started."""

    def __init__(self, pid: int | str = "self"):
        self.pid = pid
        self.before = None

    def start(self) -> None:
        """Forget the peak so far."""
        try:
            Path(f"/proc/{self.pid}/clear_refs").write_text("5")
            self.before = status(self.pid, "VmRSS")
        except OSError:
            self.before = None

    def stop(self) -> float | None:
        """Return the rise since the start, or None where it cannot be known."""
        peak = status(self.pid, "VmHWM")
        return None if self.before is None or peak is None else max(peak - self.before, 0.0)
