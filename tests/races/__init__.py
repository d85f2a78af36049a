"""Races over real HTTP for everything that counts once: codes, tokens, proofs, forms, links, approvals.

`callers.py` releases many callers together; `harness.py` judges what they got and what is alive afterwards; a file for
each room of things that count once; `mutants.py` takes the locks out, and each must then be caught.

    python -m tests.races --races 500 --callers 12 --kill 5
"""
