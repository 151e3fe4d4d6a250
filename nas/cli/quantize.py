"""``nas quantize``: any classifier, quantized layer by layer to an accuracy target."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import Device, Json, Quiet, Seed, numbers
from nas.cli.output import print_json
from nas.cli.progress import progress_on


def quantize(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A name of timm or torchvision, a bundle's folder, a .onnx file, or file.py:function of your own.",
        ),
    ],
    device: Device,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="The model's images: a folder, one subfolder a class, or fashion-mnist or cifar10. Without it, the "
            "known set that a bundle was trained on; else the shipped slice of Fashion-MNIST.",
        ),
    ] = None,
    max_drop: Annotated[
        float,
        typer.Option(
            "--max-drop",
            metavar="X",
            help="The fraction of fp32's accuracy that may be lost: 0.001 keeps 99.9 % of it.",
        ),
    ] = 0.001,
    confident: Annotated[
        bool,
        typer.Option(
            "--confident", help="The whole 95 % interval of the change must be within that, not its point estimate."
        ),
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="Weights of a network by name: safetensors or a state dict of torch. Without it, the published are "
            "downloaded.",
        ),
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option("--resolution", metavar="PIXELS", min=8, max=1024, help="Side of the images; else the model's."),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option("--mean", metavar="M,…", help="Mean of each channel of images in [0, 1], as it was trained."),
    ] = None,
    std: Annotated[str | None, typer.Option("--std", metavar="S,…", help="Likewise, the deviations.")] = None,
    sensitivity: Annotated[
        str,
        typer.Option(
            "--sensitivity",
            metavar="NAME",
            help="What orders the layers: fisher, hessian or measured (the loss with each alone in int8). random: an "
            "order by chance, which implies --plain.",
        ),
    ] = "fisher",
    plain: Annotated[bool, typer.Option("--plain", help="Leave out how neighbouring layers act together.")] = False,
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            metavar="NAME",
            help="bisection of the order, greedy along it, or clado, a program over measured pairs.",
        ),
    ] = "bisection",
    attempts: Annotated[
        int,
        typer.Option("--attempts", metavar="N", min=1, max=10_000, help="Configurations whose accuracy is counted."),
    ] = 60,
    fine_tune: Annotated[
        int,
        typer.Option(
            "--fine-tune",
            metavar="EPOCHS",
            min=0,
            max=1000,
            help="Train what was chosen at the end, as the integers compute it, on the training images.",
        ),
    ] = 0,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", metavar="R", min=0, help="Of that training, at its start; else 0.001."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the results.")] = Path("nas-quantize"),
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Quantize a classifier, as fast as its accuracy allows.

    Finds which layers the device shall run in int8, measures the finalists on it, and leaves in the folder model.onnx,
    the very file that was timed and counted, with report.md, report.json and path.png.

    With internet, published networks: nas quantize mobilenetv2_100 --device cpu --data IMAGENET, likewise resnet50.
    """
    from latency_tables import get_device
    from nas.compression.mixed import MixedPlan
    from nas.compression.qat import Recipe
    from nas.errors import UsageError
    from nas.export import Progress
    from nas.export.quantize_report import report_content, summary_table
    from nas.export.quantizing import QuantizeJob, run_quantize
    from nas.export.sources import ModelChoice

    if (mean is None) != (std is None):
        raise UsageError("--mean and --std belong together; give both or neither")
    if learning_rate is not None and not fine_tune:
        raise UsageError("--learning-rate is of the fine-tuning; add --fine-tune EPOCHS or leave it out")
    recipe = Recipe(fine_tune) if learning_rate is None else Recipe(fine_tune, learning_rate)
    choice = ModelChoice(model, weights, resolution, numbers("--mean", mean), numbers("--std", std))
    augmented = not plain and sensitivity != "random"
    search = MixedPlan(sensitivity=sensitivity, augmented=augmented, strategy=strategy, attempts=attempts, seed=seed)
    job = QuantizeJob(
        choice,
        get_device(device),
        out,
        max_drop=max_drop,
        data=data,
        confident=confident,
        search=search,
        tuning=recipe if fine_tune else None,
    )
    with progress_on(quiet) as display:
        found = run_quantize(job, Progress(display.listener, display.note))
    content = report_content(found, search)
    if json:
        print_json(content)
        return
    print("\n".join(summary_table(content)))
    chosen, floats = content["chosen"], content["device"]["floats"]
    print(
        f"{chosen['speedup']:.2f} times as fast as {floats} with {chosen['int8'].count('1')} of {len(chosen['int8'])} "
        f"layers in int8; everything is in {out}/"
    )
