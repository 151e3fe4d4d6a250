"""What the ``ssh`` runtime refuses, each in one line that names the machine, what happened and the mend."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from ssh_server import SshServer, new_key, running_server

from latency_tables import ssh_link
from latency_tables.fingerprint import usable_cores
from latency_tables.reference_net import reference_model
from latency_tables.ssh import SshDevice
from latency_tables.ssh_command import SshHost
from latency_tables.ssh_link import SshLink
from latency_tables.ssh_runner import Far, answer
from nas.errors import DeviceError, UsageError

MODEL = reference_model().SerializeToString()
BETWEEN = """#!{python}
import json, subprocess, sys, time
def said(answer):
    return json.dumps(answer).encode() + b"\\n"
runner = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE)
for line in runner.stdout:
    answer = json.loads(line)
    if {key!r} in answer:
        {change}
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[SshServer]:
    with running_server() as own:  # whose guests are counted
        yield own


def between(server: SshServer, key: str, change: str) -> str:
    """Return an interpreter that runs the runner, and ``change`` on each of its answers that has ``key``."""
    return server.python("between", BETWEEN.format(python=sys.executable, key=key, change=change))


def test_a_wrong_host_key(server: SshServer, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {new_key(tmp_path / 'another')}\n")
    with pytest.raises(DeviceError, match=r"its host key is not the one in known_hosts; find out why .*\(ssh: "):
        server.device(known_hosts=known)


def test_an_unknown_host_key_is_never_accepted(server: SshServer, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    with pytest.raises(DeviceError, match=r"its host key is not in known_hosts; enter it once with ssh and compare"):
        server.device(known_hosts=known)
    assert known.read_text() == ""


def test_a_key_that_opens_nothing(server: SshServer, tmp_path: Path) -> None:
    new_key(tmp_path / "key")
    with pytest.raises(DeviceError, match=r"it lets nobody in without a password; set up a key.*Permission denied"):
        server.device(identity=tmp_path / "key")


def test_a_machine_that_is_off(server: SshServer) -> None:
    with pytest.raises(
        DeviceError, match=r"^\S+: it cannot be reached \(ssh: .*Connection refused\); see that it is on"
    ):
        server.device(port=1)


def test_a_name_that_is_nobodys(server: SshServer) -> None:
    with pytest.raises(
        DeviceError, match=r"^pi@nobody\.invalid: it cannot be reached \(ssh: .*resolve.*\); see .* name right"
    ):
        server.device(host="pi@nobody.invalid")


def test_no_ssh_here(server: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"ssh is not installed here; install it"):
        server.device()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"host": "-oProxyCommand=id"}, r"host '-oProxyCommand=id' is none; allowed: as after `ssh`"),
        ({"host": "pi@board; id"}, r"host 'pi@board; id' is none"),
        ({"host": ""}, r"host '' is none"),
        ({"host": "pi", "port": 0}, r"port 0 of pi; allowed: 1 to 65535"),
        ({"host": "pi", "python": "a\nb"}, r"python 'a\\nb' of pi is none; name the interpreter"),
        ({"host": "pi", "identity": Path("/absent")}, r"IdentityFile /absent of pi is not a file; name one"),
        ({"host": "pi", "known_hosts": Path("/")}, r"UserKnownHostsFile / of pi is not a file"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SshHost(**arguments)


def test_an_inner_runtime_that_there_is_not() -> None:
    with pytest.raises(UsageError, match=r"unknown runtime over ssh 'onnx'; there is: onnxruntime, openvino"):
        SshDevice("pi", SshHost("pi"), inner="onnx")


def test_a_python_that_is_missing_over_there(server: SshServer) -> None:
    with pytest.raises(
        DeviceError, match=r"'/no/python' cannot be run there \(.*(not found|No such file).*\); name its Python"
    ):
        server.device(python="/no/python")


def test_a_runtime_that_is_missing_over_there(server: SshServer) -> None:
    bare = server.python("bare", f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    with pytest.raises(DeviceError, match=r"bare' there lacks onnxruntime; install it there: \S+ -m pip install onnx"):
        server.device(python=bare)


def test_more_threads_than_there_are_cores_over_there(server: SshServer) -> None:
    with pytest.raises(DeviceError, match=rf"'pi' asks for 999 threads; allowed on \S+: 1 to {usable_cores()}$"):
        server.device("pi", threads=999)


def test_a_runtime_that_does_not_start_over_there(server: SshServer) -> None:
    change = "line = said({'id': answer['id'], 'error': 'failed', 'detail': 'no memory'})"
    with pytest.raises(DeviceError, match=r"there cannot start onnxruntime: no memory; mend its installation there"):
        server.device(python=between(server, "cpu", change))


def test_a_python_that_is_too_old_over_there(server: SshServer) -> None:
    code = "import sys; sys.version_info = (3, 8); exec(sys.argv[1])"
    old = server.python("old", f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$2"\n')
    with pytest.raises(DeviceError, match=r"does not run the runner \(Python 3\.9 or newer is needed, exit 1\); mend"):
        server.device(python=old)


def test_a_runner_that_arrives_changed(server: SshServer) -> None:
    code = """"$(printf %s "$2" | sed "s/hexdigest()=='/&0/")\""""
    changed = server.python("changed", f"#!/bin/sh\nexec {sys.executable} -c {code}\n")
    with pytest.raises(DeviceError, match=r"\(the runner arrived with another sha256, exit 1\)"):
        server.device(python=changed)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo Welcome; cat >/dev/null",
            r"its answer is refused: not JSON .*b'Welcome.*see that nothing over there prints",
        ),
        ("head -c 200000 /dev/zero; cat >/dev/null", r"more than one line, or one of more than 65536 bytes"),
        ("printf '{\"id\": 1}\\nmore\\n'; cat >/dev/null", r"more than one line"),
    ],
)
def test_a_machine_that_talks_of_something_else(server: SshServer, script: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        server.device(python=server.python("talks", f"#!/bin/sh\n{script}\n"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "line = said({**answer, 'seconds': [float('nan')]})",
            r"not JSON of finite numbers \(NaN is not a finite number\)",
        ),
        ("line = said({**answer, 'seconds': [-1.0]})", r"seconds holds -1\.0; allowed: positive numbers; see"),
        ("line = said({**answer, 'seconds': [1e9]})", r"seconds add up to 1e\+09, while \S+ passed here"),
        ("line = b'[' * 60000 + b'\\n'", r"not JSON of finite numbers"),
        ("line = b'1' * 100000000 + b'\\n'", r"more than one line, or one of more than 65536 bytes"),
    ],
)
def test_times_that_cannot_be(server: SshServer, change: str, message: str) -> None:
    runner = server.device(python=between(server, "seconds", change)).load(MODEL)
    with pytest.raises(DeviceError, match=rf"^\S+@127\.0\.0\.1: its answer is refused: .*{message}"):
        runner.run(1)
    assert server.is_left()


def test_an_answer_that_does_not_come(server: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_link, "ANSWER_SECONDS", 1.0)
    host = server.host(python=between(server, "loaded", "time.sleep(60)"))
    link = SshLink(host, runtime="onnxruntime", threads=1, options={})
    start = time.monotonic()
    with pytest.raises(DeviceError, match=r"no answer to 'load' in 1 s; see what it is at"):
        link.loaded(MODEL)
    assert time.monotonic() - start < 20


def test_a_model_that_cannot_run_over_there_is_named_and_the_next_can(server: SshServer) -> None:
    model = reference_model()
    shape = onnx.helper.make_tensor("shape", onnx.TensorProto.INT64, [1], [7])
    model.graph.initializer.append(shape)
    del model.graph.node[:]
    model.graph.node.append(onnx.helper.make_node("Reshape", ["input", "shape"], [model.graph.output[0].name]))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    device = server.device()
    failing = device.load(model.SerializeToString())
    with pytest.raises(DeviceError, match=r"^model: onnxruntime \S+ on \S+@127\.0\.0\.1 cannot run it: [^\n]+$"):
        failing.run(1)
    assert device.load(MODEL).run(1) > 0


def test_a_model_that_is_too_large(server: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    device = server.device()
    monkeypatch.setattr("latency_tables.ssh_link.MAX_DATA", 3)
    with pytest.raises(DeviceError, match=r"^model: 4 bytes; allowed over ssh: 3$"):
        device.load(b"1234")


@pytest.mark.parametrize(
    ("request_", "detail"),
    [
        ({"op": "__init__", "sha256": ""}, "'__init__' cannot be asked"),
        ({"op": "load", "sha256": "0"}, "the bytes that arrived have another sha256"),
    ],
)
def test_the_runner_does_only_what_is_due(tmp_path: Path, request_: dict[str, Any], detail: str) -> None:
    found = answer(Far(str(tmp_path)), {"id": 3, "data": b"", **request_})
    assert found == {"id": 3, "error": "failed", "detail": detail} and json.dumps(found)
