"""Commands that take a trained network home."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from kdsr import zoo
from kdsr.commands.shared import add_device, add_images, add_network, add_out, add_size
from kdsr.errors import UserError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _export(args: argparse.Namespace) -> None:
    from kdsr.export_targets.exporting import ExportSettings, export

    wanted = list(dict.fromkeys([*args.formats, *args.targets]))
    wishes = ExportSettings(
        formats=wanted,
        network=args.network,
        int8=args.int8,
        gt=args.gt,
        images=args.images,
        size=args.size,
        data_licence=args.data_licence,
        purpose=args.purpose,
        repeats=args.repeats,
        everything=args.all,
    )
    written = export(args.checkpoint, args.out, wishes, partial(print, flush=True))
    print(f'The page about it: {written[-1]}')


def add_export(commands: Commands) -> None:
    """Add `kdsr export`."""
    export = commands.add_parser(
        'export',
        help='write a checkpoint as ONNX, safetensors, TorchScript, int8, checked against PyTorch, with a model card',
        description='Writes files that take any image size and batch. Each file is run and compared with PyTorch; a '
        'file with other results is an error. The options, training and scores of the network are stored in the files '
        'and on a page beside them. More: docs/deployment.md.',
    )
    export.add_argument('checkpoint', help='net_g_*.pth of an experiment, any .pth, .safetensors, or an option file')
    add_network(export, "network of bare weights: '{type: RFDN, upscale: 4}' or a YAML")
    add_out(export, 'DIR', 'default: exported', 'exported')
    export.add_argument(
        '--formats',
        nargs='+',
        default=['onnx', 'safetensors'],
        metavar='FORMAT',
        help='onnx, safetensors, torchscript, pt2 (torch.export), and the names of the options below; default: the '
        'first two',
    )
    for name, text in (
        ('ncnn', 'for Upscayl, realesrgan-ncnn-vulkan, phones: .param and .bin, fp32 and fp16'),
        ('openvino', "OpenVINO's files, .xml and .bin"),
        ('coreml', 'an .mlpackage for Core ML, which is not run here'),
        ('spandrel', 'weights under the names that chaiNNer and ComfyUI read: RCAN, SwinIR, SRVGGNetCompact, RRDBNet'),
        ('web', 'a page that enlarges images in the browser (41 MB; needs npm once)'),
    ):
        export.add_argument(
            f'--{name}', dest='targets', action='append_const', const=name, default=[], help=f'also {text}'
        )
    export.add_argument('--all', action='store_true', help='also write every other target whose packages are installed')
    add_images(export, 'low-resolution images to check with, beside noise')
    export.add_argument('--int8', metavar='DIR', help='also write an int8 ONNX file, calibrated on these images')
    export.add_argument('--gt', metavar='DIR', help='ground truths of these images, for the report of int8')
    add_size(export, 'write files for images of this size only')
    export.add_argument('--data-licence', metavar='TEXT', help='licence of the training data, for the card')
    export.add_argument('--purpose', metavar='TEXT', help='the images that the network is for, for the card')
    export.add_argument('--repeats', type=int, default=5, help='rounds of timing, 0 for none (default: 5)')
    export.set_defaults(run=_export)


def _upscale(args: argparse.Namespace) -> None:
    import sys

    from kdsr.deployment.naming import STREAM, Naming
    from kdsr.deployment.upscaler import Upscaler
    from kdsr.deployment.upscaling import ResultSettings, upscale

    if args.model and args.scale:
        raise UserError('--scale chooses a network of the zoo; a model (-m) has its own scale.')
    if args.network and not args.model:
        raise UserError('--network describes the network of a weight file: name the file with -m.')

    def say(sentence: str) -> None:
        print(f'kdsr: {sentence}', file=sys.stderr)

    build = partial(
        Upscaler,
        args.model or zoo.DEFAULTS[args.scale or _fitting_scale(args.outscale)],
        args.network,
        device=args.device,
        tile=_number_or_auto(args.tile),
        overlap=_number_or_auto(args.overlap),
        batch=args.batch,
        self_ensemble=args.self_ensemble,
        precision=args.precision,
        engine=args.engine,
        alpha=args.alpha,
        seamless=args.seamless,
        notice=say,
    )
    naming = Naming(
        suffix=args.suffix,
        kind=args.format or '',
        overwrite=args.overwrite,
        skip_existing=args.skip_existing,
        recursive=args.recursive,
    )
    settings = ResultSettings(
        outscale=args.outscale, width=args.width, quality=args.quality, max_pixels=int(1e6 * args.max_megapixels)
    )
    report = upscale(args.input, args.out, naming, build, settings, say)
    print(report, file=sys.stderr if args.out == STREAM else sys.stdout)


def _number_or_auto(text: str) -> Any:
    """Return a number, or the text for :class:`Upscaler` to check."""
    return int(text) if text.isdecimal() else text


def _fitting_scale(outscale: float | None) -> int:
    """Return the smallest scale of the zoo that is not below `outscale`."""
    return 2 if outscale is None else next((scale for scale in zoo.DEFAULTS if scale >= outscale), max(zoo.DEFAULTS))


def add_upscale(commands: Commands) -> None:
    """Add `kdsr upscale`."""
    upscale = commands.add_parser(
        'upscale',
        help='enlarge images, folders or patterns with a network of the zoo, a checkpoint, or an ONNX file',
        description='Reads PNG, JPEG, WebP, TIFF, AVIF, GIF, TGA and whatever else Pillow opens; writes PNG, JPEG, '
        'WebP, TIFF and BMP. 16 bits, alpha, grey, orientation, colour profile and metadata are kept. Memory does not '
        'grow with the height of the result. In Python: kdsr.deployment.Upscaler. More: docs/deployment.md.',
    )
    upscale.add_argument(
        'input', nargs='+', help="images, folders, patterns in quotes ('photos/**/*.jpg'), or - for standard input"
    )
    upscale.add_argument(
        '-m',
        '--model',
        help='.pth, .safetensors, .onnx, or a name of `kdsr zoo`; default, by --scale: '
        + ', '.join(zoo.DEFAULTS.values()),
    )
    upscale.add_argument('--scale', type=int, choices=[2, 3, 4], help='scale of the default network (default: 2)')
    add_out(upscale, 'DIR|FILE', 'a folder; for one image a file, or - for standard output', required=True)
    upscale.add_argument('-r', '--recursive', action='store_true', help='also read subfolders; the results keep them')
    size = upscale.add_mutually_exclusive_group()
    size.add_argument('--outscale', type=float, metavar='FACTOR', help='resize the result: 1.5, 3.25, 8, ...')
    size.add_argument('--width', type=int, metavar='PIXELS', help='resize the result to this width')
    add_network(upscale, "network of bare weights: '{type: RFDN, upscale: 4}' or a YAML")
    upscale.add_argument(
        '--engine',
        choices=['auto', 'torch', 'onnx', 'openvino'],
        default='auto',
        help='runtime of the network; auto: the fastest one that is installed',
    )
    add_device(upscale)
    precision = upscale.add_mutually_exclusive_group()
    for name in ('fp16', 'bf16'):
        precision.add_argument(
            f'--{name}', dest='precision', action='store_const', const=name, default='fp32', help=f'compute in {name}'
        )
    upscale.add_argument(
        '--alpha', choices=['bicubic', 'network'], default='bicubic', help='how transparency is enlarged'
    )
    upscale.add_argument('--seamless', action='store_true', help='for textures: make opposite borders fit together')
    upscale.add_argument('--self-ensemble', action='store_true', help='mean over eight flips and turns')
    upscale.add_argument('--tile', default='auto', help='side of tiles in pixels of the input, 0 for none, or auto')
    upscale.add_argument(
        '--overlap', default='auto', help='pixels that a tile reads around it (auto: as far as the network looks)'
    )
    upscale.add_argument('--batch', type=int, default=1, help='tiles at a time (default: 1)')
    upscale.add_argument('--suffix', default='', help="appended to the names, for example '_x4'")
    upscale.add_argument(
        '--format',
        choices=['png', 'jpg', 'webp', 'tif', 'bmp'],
        help='format of the results (default: the format of each image; PNG if it cannot be written)',
    )
    upscale.add_argument(
        '--quality', type=int, metavar='1..100', help='of JPEG (default: 95) and WebP (default: without loss)'
    )
    existing = upscale.add_mutually_exclusive_group()
    existing.add_argument('--overwrite', action='store_true', help='replace results that exist')
    existing.add_argument('--skip-existing', action='store_true', help='keep results that exist; do the others')
    upscale.add_argument(
        '--max-megapixels', type=float, default=178.95697, metavar='N', help='refuse larger images (default: 179)'
    )
    upscale.set_defaults(run=_upscale)


def _zoo(args: argparse.Namespace) -> None:
    from kdsr.deployment import zoo_listing

    print(zoo_listing.read_page(args.name) if args.name else zoo_listing.list_zoo())


def add_zoo(commands: Commands) -> None:
    """Add `kdsr zoo`."""
    zoo = commands.add_parser(
        'zoo',
        help='list the small networks that come with kdsr, or show the card of one',
        description='Commands accept the names of these networks in place of files: `kdsr upscale photo.png --out '
        'large -m rfdn_small_x4`, `kdsr export rfdn_small_x4`, `kdsr benchmark rfdn_small_x4 --sets Set5`. More: '
        'docs/zoo.md.',
    )
    zoo.add_argument('name', nargs='?', help='show the card of this network (default: list all networks)')
    zoo.set_defaults(run=_zoo)


def add_all(commands: Commands) -> None:
    """Add the commands of this file."""
    add_export(commands)
    add_upscale(commands)
    add_zoo(commands)
