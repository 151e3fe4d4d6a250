"""The ``ssh`` runtime against an OpenSSH server on loopback: it measures, goes on after a cut, and leaves nothing."""

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ssh_server import SshServer, eventually, running_server
from tiny_space import tiny_space

from latency_tables import FULL, get_device, ssh_link
from latency_tables.builder import timing_model
from latency_tables.costs import Images
from latency_tables.protocol import SlicedRunner
from latency_tables.ssh_command import RUNNER, SshHost
from latency_tables.ssh_link import SshLink
from nas.errors import DeviceError

SPACE = tiny_space()
QUICK = replace(FULL, min_rounds=3, max_rounds=3, warm_seconds=0.02, settle_seconds=0.05, value_seconds=0.005)
AWKWARD = 'it\'s "here" $(touch gone) `id` ; & | * ? %h ${HOME} ~ \\ #'


@pytest.fixture(scope="module")
def server() -> Iterator[SshServer]:
    with running_server() as own:  # whose guests are counted
        yield own


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_link, "PAUSES", (0.05, 0.2, 1.0))
    monkeypatch.setattr(ssh_link, "LOCK_SECONDS", 0.05)


@pytest.fixture(scope="module")
def model() -> bytes:
    return timing_model(SPACE, SPACE.smallest(), Images(1, 3))


def test_this_machine_through_ssh_is_the_device_cpu(server: SshServer) -> None:
    device, cpu = server.device(), get_device("cpu")
    assert device.describe() == cpu.describe() and device.runtime == cpu.runtime


def test_a_profile_names_another_machine(server: SshServer, tmp_path: Path) -> None:
    host = server.host()
    (tmp_path / "key").write_bytes(host.identity.read_bytes())
    (tmp_path / "key").chmod(0o600)
    path = tmp_path / "board.toml"
    lines = [
        "schema_version = 1",
        'runtime = "ssh"',
        'precisions = ["fp32"]',
        f'host = "{host.host}"',
        f"port = {host.port}",
        f"python = '{host.python}'",
        'identity = "key"',
        f"known_hosts = '{host.known_hosts}'",
    ]
    path.write_text("\n".join(lines))
    device = get_device(path)
    assert (device.name, device.precisions, device.runtime) == ("board", ("fp32",), get_device("cpu").runtime)


def test_its_sessions_give_the_logits_of_this_machines(server: SshServer) -> None:
    images = np.random.default_rng(0).standard_normal((5, 1, 16, 16), dtype=np.float32)
    network = timing_model(SPACE, SPACE.largest("int8"), Images(1, 3))
    far, here = server.device().session(network), get_device("cpu").session(network)
    for image in np.split(images, 5):
        assert np.array_equal(far.run(None, {"input": image})[0], here.run(None, {"input": image})[0])


def test_openvino_over_there_is_this_machines(server: SshServer) -> None:
    pytest.importorskip("openvino")
    images = np.random.default_rng(0).standard_normal((3, 1, 16, 16), dtype=np.float32)
    far, here = server.device(inner="openvino"), get_device("openvino")
    assert (far.runtime, far.precisions, far.quantization) == (here.runtime, here.precisions, here.quantization)
    network = timing_model(SPACE, SPACE.largest(far.precisions[-1]), Images(1, 3), far.quantization)
    assert far.integer_kernels(network) == {"Gemm": 0, "MatMul": 0, **here.integer_kernels(network)}
    found, expected = (device.session(network).run(None, {"input": images})[0] for device in (far, here))
    assert np.array_equal(found, expected) and far.load(network).run(2) > 0


def test_it_counts_integer_kernels_over_there(server: SshServer) -> None:
    device = server.device()
    found = [
        device.integer_kernels(timing_model(SPACE, SPACE.largest(name), Images(1, 3))) for name in device.precisions
    ]
    assert found[0] == {"Conv": 0, "Gemm": 0, "MatMul": 0}
    assert [kernels["Conv"] for kernels in found[1:]] == [2 + 3 * 4] * (len(found) - 1)


def test_all_slices_of_a_value_are_one_question(server: SshServer, model: bytes) -> None:
    runner = server.device().load(model)
    assert isinstance(runner, SlicedRunner)
    found = runner.run_slices(3, 7)
    assert len(found) == 7 and min(found) > 0


def test_paths_with_quotes_spaces_and_shell_characters(server: SshServer, model: bytes) -> None:
    folder = server.folder / AWKWARD
    folder.mkdir()
    for name in ("user_key", "known_hosts"):
        (folder / name).write_bytes((server.folder / name).read_bytes())
    (folder / "user_key").chmod(0o600)
    (folder / "python").symlink_to(sys.executable)
    script = server.python(f"{AWKWARD}/python 3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    found = server.device(identity=folder / "user_key", known_hosts=folder / "known_hosts", python=script)
    assert found.load(model).run(2) > 0
    assert not Path.home().joinpath("gone").exists() and not server.folder.joinpath("gone").exists()


def test_a_python_in_the_home_folder_is_found_there() -> None:
    command = SshHost("pi@board", python="~/venv/bin/python").command()
    assert command[-1].startswith("exec ./venv/bin/python -c ") and command[-2] == "pi@board"


def test_a_careless_configuration_of_ssh_loosens_nothing(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "StrictHostKeyChecking no\nBatchMode no\nVerifyHostKeyDNS yes\nForwardAgent yes\nRemoteCommand id\n"
        "KnownHostsCommand /bin/echo %h\nGSSAPIDelegateCredentials yes\nGlobalKnownHostsFile /etc/hosts\n"
    )
    pinned = SshHost("pi@board", known_hosts=config)
    *arguments, _, host, _ = pinned.command()
    asked = subprocess.run(
        [*arguments, "-F", config, "-G", host], capture_output=True, text=True, check=True, env=pinned.environment()
    )
    effective = set(asked.stdout.splitlines())
    assert {"stricthostkeychecking true", "batchmode yes", "verifyhostkeydns false", "forwardagent no"} <= effective
    assert {"gssapidelegatecredentials no", "globalknownhostsfile none", f"userknownhostsfile {config}"} <= effective
    assert not [line for line in effective if line.startswith(("remotecommand id", "knownhostscommand /"))]


def test_a_connection_cut_in_the_middle_is_opened_again_and_the_measurement_goes_on(
    server: SshServer, model: bytes
) -> None:
    device, cuts = server.device(), []

    def cut_once(done: int, expected: int) -> None:
        if done == 2 and not cuts:
            cuts.append(server.guests())
            server.cut()

    found = device.measure_many({"a": model, "b": model}, plan=QUICK, progress=cut_once)
    assert cuts and cuts[0] and not set(cuts[0]) & set(server.guests())
    assert all(measurement.latency_ms > 0 and measurement.rounds for measurement in found.values())
    device.close()
    assert server.is_left()


@pytest.mark.parametrize("end", ["kill $$", "echo Permission denied >&2; exit 255"])
def test_a_connection_that_is_always_cut_is_given_up(end: str, server: SshServer, model: bytes) -> None:
    script = f'#!/bin/sh\n{sys.executable} "$@" | {{ read -r line; echo "$line"; {end}; }}\n'
    host = server.host(python=server.python("dies", script))
    link = SshLink(host, runtime="onnxruntime", threads=1, options={})
    with pytest.raises(
        DeviceError, match=r"^\S+@127\.0\.0\.1: the connection was cut .*3 tries before this one ended alike; see"
    ):
        link.loaded(model)
    assert server.is_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_runner_that_is_killed_leaves_nothing_and_is_started_again(
    server: SshServer, model: bytes, number: int
) -> None:
    device = server.device()
    runner = device.load(model)
    assert server.temporary()
    [guest] = server.guests()
    os.kill(guest, number)
    assert server.is_left()
    assert runner.run(2) > 0
    device.close()
    assert server.is_left()


def test_nothing_is_left_when_the_device_is_gone(server: SshServer, model: bytes) -> None:
    device = server.device()
    runner = device.load(model)
    assert server.guests() and server.temporary() and runner.run(1) > 0
    del runner, device
    assert server.is_left()


def test_a_runner_that_nobody_asks_anything_leaves(tmp_path: Path) -> None:
    code = (
        "from latency_tables import ssh_runner as runner; runner.IDLE_SECONDS, runner.WATCH_MS = 0.1, 50; runner.main()"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    runner = subprocess.Popen([sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE)
    assert runner.wait(60) == 0 and not [*tmp_path.glob("hwnas-*")]
    runner.stdin.close()


def test_who_measures_the_other_machine_has_it_alone(server: SshServer) -> None:
    first, second, notes = server.device("first"), server.device("second"), []
    second.wait_seconds = 0.0
    busy = r"127\.0\.0\.1 is being measured from elsewhere"
    with first.exclusively():
        with pytest.raises(DeviceError, match=busy), second.exclusively():
            pass
        second.wait_seconds = 0.1
        with pytest.raises(DeviceError, match=busy), second.exclusively(notes.append):
            pass
    assert len(notes) == 1 and "waiting for it to end" in notes[0]
    with second.exclusively():
        pass


def test_the_lock_is_taken_again_after_a_cut_and_freed_by_one(server: SshServer) -> None:
    first, second = server.device("first"), server.device("second")
    second.wait_seconds = 0.0
    with first.exclusively():
        server.cut()
        assert eventually(lambda: not server.guests())
        assert first.reference().run(1) > 0
        with pytest.raises(DeviceError, match="is being measured from elsewhere"), second.exclusively():
            pass
    first.close()
    with second.exclusively():
        pass


def test_another_machine_at_the_same_address_is_not_taken_for_the_first(server: SshServer, model: bytes) -> None:
    link = SshLink(server.host(), runtime="onnxruntime", threads=1, options={})
    link.machine = {**link.machine, "runtime_version": "0.1"}
    server.cut()
    with pytest.raises(DeviceError, match=r"another machine or runtime answers than before; run this again"):
        link.loaded(model)


def test_what_is_sent_is_written_in_python_3_9_and_needs_nothing_of_ours(repository: Path) -> None:
    for name in RUNNER:
        tree = ast.parse((repository / f"latency_tables/{name}.py").read_text(), feature_version=(3, 9))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
        names |= {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
        roots = {found.split(".")[0] for found in names - {"latency_tables.fingerprint"}}
        assert roots - {"numpy", "onnxruntime", "openvino"} <= set(sys.stdlib_module_names)
