"""Run the office: `python -m agentauth.embedded.office --port 8002`."""

import argparse

import uvicorn

from agentauth.embedded.office.app import Office


def main() -> None:
    parser = argparse.ArgumentParser(prog="office", description="The demo's upstream.")
    parser.add_argument("--port", type=int, default=8002)
    parser.add_argument("--host", default="127.0.0.1")
    asked = parser.parse_args()
    uvicorn.run(Office(), host=asked.host, port=asked.port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
