"""A program that speaks DevTools as Chromium does and lies as it is told: ``$FAKE_CHROMIUM`` is JSON.

Each key is a function of ``page.mjs`` and each value what it returns, or throws where it is ``{"throws": text}``.
"""

import json
import os
import re
import sys

ANSWERS = {
    "start": {"isolated": True},
    "release": 0,
    "open": {
        "threads": 1,
        "inputs": [{"name": "input", "type": "float32", "shape": ["N", 2]}],
        "outputs": [{"name": "logits", "type": "float32", "shape": ["N", 1]}],
    },
    "feed": True,
}


def answer(method: str, params: dict[str, str], state: dict[str, str]) -> dict[str, object]:
    if method == "Browser.getVersion":
        return {"product": "Chrome/1"}
    if method == "Target.createTarget":
        state["url"] = params["url"]
        return {"targetId": "1"}
    if method == "Target.attachToTarget":
        return {"sessionId": "1"}
    if method != "Runtime.evaluate":
        return {}
    called = re.search(r"page\.(\w+)\(", params["expression"])
    value = {**ANSWERS, **json.loads(os.environ["FAKE_CHROMIUM"])}[called[1]] if called else "complete" + state["url"]
    if isinstance(value, dict) and "throws" in value:
        return {"exceptionDetails": {"text": "Uncaught", "exception": {"description": value["throws"]}}}
    return {"result": {"value": value}}


def main() -> None:
    state: dict[str, str] = {}
    with open(3, "rb") as commands, open(4, "wb") as answers:
        buffer = b""
        while chunk := os.read(commands.fileno(), 65536):
            *messages, buffer = (buffer + chunk).split(b"\0")
            for message in map(json.loads, messages):
                result = answer(message["method"], message["params"], state)
                answers.write(json.dumps({"id": message["id"], "result": result}).encode() + b"\0")
                answers.flush()


if __name__ == "__main__":
    main()
    sys.exit()
