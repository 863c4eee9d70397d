import subprocess
import sys

PROGRAM = """
import resource, sys
from calotype.utils.memory import keep_freed_memory
kept = sys.argv[1] == "keep" and keep_freed_memory()
def faults_so_far():
    bytearray(b"x") * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults_so_far()
print(kept, faults_so_far() - before)
"""


def test_freed_memory_is_used_again_without_page_faults() -> None:
    def run(mode: str) -> tuple[str, int]:
        command = [sys.executable, "-c", PROGRAM, mode]
        kept, faults = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return kept, int(faults)

    assert run("leave")[1] > 10_000
    kept, faults = run("keep")
    assert kept == "True"
    assert faults < 100
