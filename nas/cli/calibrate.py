"""``nas calibrate``: what networks cost on a device."""

from typing import Annotated

import typer

from nas.cli.interrupt import kept_after_interrupt
from nas.cli.options import Device, Json, Quiet, Space, Supernet
from nas.cli.output import print_json
from nas.cli.progress import progress_on
from nas.defaults import SPACE
from nas.errors import UsageError


def calibrate(
    device: Device,
    space: Space = None,
    supernet: Supernet = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds", metavar="S", min=1, max=86_400, help="About how long it may take, instead of about a minute."
        ),
    ] = None,
    few: Annotated[
        int | None,
        typer.Option(
            "--few",
            metavar="N",
            min=10,
            max=100,
            help="Measure only N networks, 20 for example, and predict the rest "
            "from the tables of other devices, shipped or calibrated before.",
        ),
    ] = None,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Measure anew, even if this device is known.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a device, for later searches.

    Measures networks of the space on the device, fits its latency table and predictor, and prints their error on
    networks held out, by depth, resolution and share of int8, beside the repeatability of the measurement and plainer
    predictors, and draws them. Kept in the user's cache by the device's fingerprint, and reused until hardware or
    runtime change. Of a modelled device it prints what its model says.

    With --few it takes seconds, and a later search uses it as long as nothing better is there.
    """
    from latency_tables import get_device
    from latency_tables.bitfusion import BitFusion
    from latency_tables.costs import Images
    from latency_tables.modelled_report import modelled_report
    from nas.export import Progress
    from nas.export.scoring import calibrated, open_supernet
    from predictors.calibration import Calibration, calibration_folder
    from predictors.calibration_files import measured_so_far
    from predictors.few_calibration import FewShotCalibration, calibrate_few, few_shot_folder
    from search_spaces import device_menu, make_space
    from supernets import get_supernet

    on = get_device(device)
    _check_together(device, is_computed=isinstance(on, BitFusion), seconds=seconds, few=few)
    untrained = supernet is None  # timing does not depend on the weights
    net = get_supernet(space or SPACE, pretrained=False) if untrained else open_supernet(str(supernet), space)
    preset = net.space.preset
    if isinstance(on, BitFusion):
        report = modelled_report(on, make_space(preset, on.precisions), Images(net.channels, net.classes))
        print_json(report.to_dict()) if json else print("\n".join(report.lines()))
        return
    menu = make_space(preset, device_menu(preset.precisions, on.precisions))

    def kept() -> str:
        folder = calibration_folder if few is None else few_shot_folder
        path = measured_so_far(folder(on, menu, channels=net.channels, classes=net.classes))
        return f"what was measured is kept in {path}; the same command goes on" if path else "nothing was measured yet"

    with kept_after_interrupt(kept), progress_on(quiet) as display:
        found: Calibration | FewShotCalibration
        if few is not None:
            found = calibrate_few(
                on, menu, channels=net.channels, classes=net.classes, networks=few, fresh=recalibrate,
                progress=display.listener, note=display.note,
            )  # fmt: skip
        else:
            found = calibrated(
                on, menu, net, fresh=recalibrate, seconds=seconds, progress=Progress(display.listener, display.note)
            )
            if found.reused and seconds is not None:
                display.note(f"--seconds {seconds:g} is not used, as nothing was measured; --recalibrate measures anew")
    picture = {"picture": str(found.picture())} if isinstance(found, Calibration) else {}
    if json:
        print_json({**found.report.to_dict(), "reused": found.reused, "folder": str(found.folder), **picture})
    else:
        print("\n".join([*found.report.lines(), *(f"picture: {path}" for path in picture.values())]))


def _check_together(device: str, *, is_computed: bool, seconds: float | None, few: int | None) -> None:
    """Refuse what would be passed over in silence."""
    given = [name for name, value in (("--seconds", seconds), ("--few", few)) if value is not None]
    if is_computed and given:
        raise UsageError(f"{given[0]} with device {device!r}, which is computed, not measured; leave it out")
    if len(given) > 1:
        raise UsageError(f"--seconds with --few, which measures {few} networks however long that takes; leave one out")
