"""An R process that runs what it is sent and says how long it took."""

import shutil
import subprocess
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from .answer import Answer, named
from .contender import Run
from .memory import PeakMeter

SCRIPT = Path(__file__).with_name("session.R")
HINT = "install R and put Rscript on the PATH (Debian and Ubuntu: apt install r-base-core)"


def have_r() -> bool:
    """Whether Rscript can be found."""
    return shutil.which("Rscript") is not None


class RSession:
    """One R process with one data set loaded, for all R peers of a case."""

    def __init__(self):
        self.process = subprocess.Popen(
            [shutil.which("Rscript"), "--vanilla", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        greeting = self._listen()
        self.version = greeting["version"][0][1]
        self.meter = PeakMeter(greeting["pid"][0][1])

    def _listen(self) -> dict[str, list[tuple[str, str]]]:
        """Read to the end of an answer: ``{what: [(name, value), …]}``."""
        found = defaultdict(list)
        for line in self.process.stdout:
            if line == "@@end\n":
                return found
            if line.startswith("@@"):
                what, name, value = line[2:].rstrip("\n").split("\t", 2)
                found[what].append((name, value))
        raise RuntimeError("R stopped without an answer")

    def ask(self, verb: str, text: str) -> dict[str, list[tuple[str, str]]]:
        """Send one line and return the answer.

        Raises
        ------
        RuntimeError
            With R's message, if the expression failed.
        """
        self.process.stdin.write(f"{verb} {text}\n")
        self.process.stdin.flush()
        found = self._listen()
        if found["error"]:
            raise RuntimeError(f"R: {found['error'][0][1]}")
        return found

    def package_version(self, package: str) -> str | None:
        """Return the version of an R package, or None where it is not installed."""
        found = self.ask("have", package)["version"]
        return found[0][1] if found else None

    def time(self, expression: str) -> Run:
        """Time an R expression that does the whole job."""
        self.meter.start()
        found = self.ask("time", expression)
        mib = self.meter.stop()
        numbers = {what: {n: float(v) for n, v in found[what]} for what in ("beta", "se", "sd")}
        answer = Answer(
            beta=named(numbers["beta"], numbers["beta"].values()),
            se=named(numbers["se"], numbers["se"].values()),
            sd=numbers["sd"],
            loglik=float(found["loglik"][0][1]) if found["loglik"] else None,
            notes=tuple(text for _, text in found["note"]),
        )
        seconds, processor = (float(found[what][0][1]) for what in ("seconds", "processor"))
        return Run(seconds, processor, mib, answer)

    def close(self) -> None:
        """End the process, whatever state it is in."""
        with suppress(OSError):  # it may have died already
            self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
