"""The whole product in Chromium: the story as owner, member and auditor of the demo, and every page to eye and hand.

It serves what only a browser can tell: what people see, press and read, and what a page does behind their back.
What a protocol answers stands under `tests/oauth` and `tests/gateway`.
"""
