"""Stands in for curl on a machine without it: only the options that the handbook uses."""

import argparse
import base64
import sys
import urllib.request

options = argparse.ArgumentParser()
options.add_argument("-s", action="store_true")
options.add_argument("-u", default="")
options.add_argument("-d", action="append", default=[])
options.add_argument("-H", action="append", default=[])
options.add_argument("url")
given = options.parse_args()
request = urllib.request.Request(given.url, data="&".join(given.d).encode() or None)
for header in given.H:
    name, _, value = header.partition(":")
    request.add_header(name, value.strip())
if given.u:
    request.add_header("Authorization", "Basic " + base64.b64encode(given.u.encode()).decode())
with urllib.request.urlopen(request, timeout=30) as answer:
    sys.stdout.write(answer.read().decode())
