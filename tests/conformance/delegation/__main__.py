"""`python -m tests.conformance.delegation my_adapter.py`: the file has `adapter()`, which gives a fresh world."""

import runpy
import sys

from tests.conformance.delegation.runner import CASES, run_case


def main(path: str) -> int:
    adapter = runpy.run_path(path)["adapter"]
    failed = 0
    for case in CASES:
        problem = run_case(case, adapter())
        failed += bool(problem)
        print(f"{'FAIL' if problem else 'ok  '} {problem or case['name']}")
    print(f"{len(CASES) - failed} of {len(CASES)} passed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.conformance.delegation ADAPTER.py")
    sys.exit(main(sys.argv[1]))
