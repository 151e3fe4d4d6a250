"""``nas calibrate --few``: seconds of measuring, and what a search uses until there is a whole calibration."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_calibration import IMAGES, PLAN, SPACE, run
from tiny_space import tiny_space

from latency_tables import SimulatedDevice
from latency_tables.features import count_features
from nas.cli.main import main
from nas.export import Progress
from nas.export.scoring import from_few, from_wider, scorer_of
from predictors import Prediction, calibrate
from predictors.few_calibration import calibrate_few

NET = SimpleNamespace(**IMAGES)  # all that a device's calibration asks of a supernet


class Guess:
    """Predicts the same accuracy of every network."""

    def predict(self, genes: NDArray[np.int8]) -> Prediction:
        return Prediction(*[np.full(len(genes), 0.5, np.float32)] * 3)


def test_the_command_prints_what_was_chosen_and_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency_tables.get_device", SimulatedDevice)
    arguments = ["calibrate", "--device", "pretended", "--few", "12", "--quiet"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert (
        "SIMULATED" in text and "few-shot: 12 networks" in text and "chosen by networks left out: fresh table" in text
    )
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reused"] and found["networks"] == 12 and found["errors"].keys() == {"fresh table"}


def test_a_search_uses_it_until_there_is_a_whole_calibration() -> None:
    device, notes = SimulatedDevice("pretended"), []
    progress = Progress(lambda stage, done, total: None, notes.append)
    assert from_few(device, SPACE, NET, progress=progress) is None
    calibrate_few(device, SPACE, networks=20, **IMAGES)
    found = from_few(device, SPACE, NET, progress=progress)
    assert found is not None and "few-shot calibration of pretended from 20 networks reused" in notes[0]
    scorer = scorer_of(Guess(), found)  # type: ignore[arg-type]
    assert scorer.baseline_ms == found.reference_ms
    assert scorer.origin["few_shot"] == "fresh table" and scorer.origin["networks"] == 20
    rows = SPACE.sample(5, np.random.default_rng(0))
    assert np.allclose(scorer.score(rows)["latency_ms"], found.predictor.predict(rows).mean)
    whole = run(device)
    assert from_few(device, SPACE, NET) is None
    assert "repeatability" in scorer_of(Guess(), whole).origin  # type: ignore[arg-type]


@pytest.mark.parametrize("corrected", [False, True])
def test_a_search_of_fewer_precisions_takes_its_part_of_a_whole_calibration(
    corrected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, notes = SimulatedDevice("pretended"), []
    net, part = SimpleNamespace(**IMAGES, space=SPACE), tiny_space(("fp32",))
    progress = Progress(lambda stage, done, total: None, notes.append)
    assert from_wider(device, part, net) is None
    whole = run(device)
    if corrected:
        counts = count_features(SPACE)
        whole.predictor._correct({"offset": 0.1, **dict.fromkeys(counts, 0.01)})
        monkeypatch.setattr(
            "nas.export.scoring.load_calibration", lambda _, of, **__: whole if of is not part else None
        )
    assert from_wider(device, SPACE, net) is None
    found = from_wider(device, part, net, progress=progress)
    assert found is not None and found.report == whole.report
    assert "calibration of pretended for fp32, int8 reused" in notes[0]
    rows = part.sample(20, np.random.default_rng(0))
    same = np.stack([SPACE.genes(part.candidate(row)) for row in rows])
    ours, theirs = found.predictor.predict(rows), whole.predictor.predict(same)
    np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-5)
    np.testing.assert_allclose(ours.high, theirs.high, rtol=1e-5)
    calibrate(device, part, plan=PLAN, **IMAGES)
    monkeypatch.undo()
    assert from_wider(device, part, net) is None  # it has one of its own


def test_numbers_of_networks_out_of_range_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for number in ("9", "101", "many"):
        assert main(["calibrate", "--device", "cpu", "--few", number]) == 2
        assert "error: Invalid value for '--few'" in capsys.readouterr().err
