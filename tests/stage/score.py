"""Counts what held. A play ends with `N passed, M failed`, and with 1 where something failed."""

import sys
import tempfile
import time
import traceback
from pathlib import Path


class Score:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def check(self, what, good, shown=""):
        if good:
            self.passed += 1
            print("ok  ", what, flush=True)
        else:
            self.failed += 1
            print("FAIL", what, str(shown)[:1500], flush=True)

    def skip(self, what, why):
        self.skipped += 1
        print("skip", what, f"({why})", flush=True)

    def play(self, name, scene, *arguments):
        """One scene in a folder of its own; what it raises is its failure."""
        with tempfile.TemporaryDirectory(prefix="palomar-play-") as folder:
            began = time.monotonic()
            try:
                scene(Path(folder), *arguments)
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1].line
                self.check(name, False, f"{type(error).__name__}: {error}\n     {where}")
            else:
                self.check(f"{name} ({time.monotonic() - began:.1f} s)", True)

    def end(self):
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        print(f"{self.passed} passed, {self.failed} failed{skipped}")
        sys.exit(1 if self.failed else 0)
