"""`python -m tests.conformance.delegation my_adapter.py`: the file has `adapter()`, which gives a fresh world."""

import runpy
import sys

from tests.conformance.delegation.adapter import NotThere
from tests.conformance.delegation.runner import CASES, run_case


def main(path: str) -> int:
    adapter = runpy.run_path(path)["adapter"]
    failed = passed_over = 0
    for case in CASES:
        try:
            problem = run_case(case, adapter())
        except NotThere as why:
            passed_over += 1
            print(f"--   {case['name']}: passed over, {why}")
            continue
        failed += bool(problem)
        print(f"{'FAIL' if problem else 'ok  '} {problem or case['name']}")
    asked = len(CASES) - passed_over
    print(f"{asked - failed} of {asked} passed" + (f", {passed_over} passed over" if passed_over else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.conformance.delegation ADAPTER.py")
    sys.exit(main(sys.argv[1]))
