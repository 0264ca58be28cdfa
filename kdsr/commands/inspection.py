"""Commands that look at networks: what they do where, and their images."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from kdsr.commands.shared import (
    add_device,
    add_force_yml,
    add_images,
    add_iter,
    add_network,
    add_out,
    add_size,
)
from kdsr.errors import UserError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _diagnose(args: argparse.Namespace) -> None:
    from kdsr.inspection.diagnosis import DiagnosisSettings, diagnose

    settings = DiagnosisSettings(
        iteration=args.iter,
        images=args.count,
        pictures=args.pictures,
        folders=args.sets,
        training_patches=args.training_patches,
        alone=args.alone,
        beside=args.beside,
        device=args.device,
        overrides=args.force_yml,
    )
    print(diagnose(args.option_file, settings, out=args.out))


def add_diagnose(commands: Commands) -> None:
    """Add `kdsr diagnose`."""
    diagnose = commands.add_parser(
        'diagnose',
        help='compare student and teachers of a trained run: scores, patches, features, attention map',
        description='Runs student and teachers of a trained experiment on its validation sets. It writes their scores, '
        "the share of patches in which the teacher is worse than the student, the PSNR of the student's features "
        "against the teacher's, and a picture of LSFD's attention map, as Markdown and PNG. The option file of an "
        'aggregator, or of a student that is not trained yet, gives the scores of teachers and aggregator; that of a '
        'PISR teacher gives its compact feature with spectrum and histogram.',
    )
    diagnose.add_argument('option_file', help='the option file of the training')
    add_iter(diagnose, 'checkpoint, for example 5000 (default: latest)', 'latest')
    diagnose.add_argument('--count', type=int, metavar='N', help='how many images of each set to take (default: all)')
    diagnose.add_argument('--images', dest='count', type=int, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    diagnose.add_argument(
        '--sets', nargs='+', default=[], metavar='DIR', help='folders of test sets (default: the validation sets)'
    )
    diagnose.add_argument('--pictures', type=int, default=3, help='how many images to draw (default: 3)')
    diagnose.add_argument(
        '--training-patches',
        type=int,
        default=0,
        metavar='N',
        help='also count in how many of N training patches the teacher is worse, and draw the worst',
    )
    diagnose.add_argument(
        '--alone',
        metavar='[NAME=]FILE',
        help="option file or weights of a student trained alone, for --training-patches (default: the run's student)",
    )
    diagnose.add_argument(
        '--beside', nargs='+', default=[], metavar='FILE', help="option files of other PISR teachers, beside this one's"
    )
    add_out(diagnose, 'DIR', 'folder (default: experiments/<name>/diagnosis)')
    add_device(diagnose)
    add_force_yml(diagnose)
    diagnose.set_defaults(run=_diagnose)


def _attribution(args: argparse.Namespace) -> None:
    from kdsr.inspection.attribution import write_attribution
    from kdsr.inspection.local_attribution import BlurPath
    from kdsr.networks.weight_files import read_network_opt

    if not args.images:
        raise UserError('name ground-truth images: --images datasets/Set14/HR/zebra.png')
    text = write_attribution(
        args.sources,
        args.images,
        position=args.window,
        size=args.size,
        field=args.field,
        path=BlurPath(args.sigma, args.kernel, args.steps),
        network_opt=read_network_opt(args.network) if args.network else None,
        iteration=args.iter,
        with_teachers=args.teachers,
        out=args.out,
        device=args.device,
        overrides=args.force_yml,
    )
    print(text)


def add_attribution(commands: Commands) -> None:
    """Add `kdsr attribution`."""
    attribution = commands.add_parser(
        'attribution',
        help='show which input pixels networks use, and how much an aggregator takes from each teacher',
        description='Draws local attribution maps (LAM) of several networks side by side, with their diffusion index. '
        'The low resolution is made from the ground truth. With --teachers, and for option files of aggregators, it '
        'also draws the teachers, their fusion, and the share of each teacher in it.',
    )
    attribution.add_argument(
        'sources', nargs='+', metavar='[NAME=]FILE', help='option file of a training or test, or a file of weights'
    )
    add_images(attribution, 'ground-truth images', True, '--image')
    attribution.add_argument(
        '--window',
        type=int,
        nargs=2,
        metavar=('X', 'Y'),
        help='top left pixel of the window (default: the most textured window)',
    )
    add_size(attribution, 'side of the window in pixels (default: 16)', 16, square=True)
    attribution.add_argument(
        '--field',
        type=int,
        default=64,
        help='side of the LR input around the window; 0 for the whole image (default: 64)',
    )
    attribution.add_argument(
        '--steps', type=int, default=50, help='steps of the path from blurred to sharp (default: 50)'
    )
    attribution.add_argument('--sigma', type=float, default=1.2, help='sigma of the strongest blur (default: 1.2)')
    attribution.add_argument('--kernel', type=int, default=9, help='side of the kernel of the blur, odd (default: 9)')
    add_network(attribution, "network of bare weights: '{type: RFDN, upscale: 4}' or a YAML")
    add_iter(attribution, 'checkpoint of trainings (default: latest)', 'latest')
    add_device(attribution)
    add_force_yml(attribution)
    attribution.add_argument('--teachers', action='store_true', help='also take the teachers of option files')
    add_out(attribution, 'DIR', 'folder (default: results/attribution)', 'results/attribution')
    attribution.set_defaults(run=_attribution)


def _pictures(args: argparse.Namespace) -> None:
    from kdsr.pictures.folders import draw_folders

    text = draw_folders(
        args.gt,
        args.folders,
        scale=args.scale,
        crops=args.crop,
        count=args.count,
        size=args.size,
        out=args.out,
    )
    print(text)


def add_pictures(commands: Commands) -> None:
    """Add `kdsr pictures`."""
    pictures = commands.add_parser(
        'pictures',
        help='draw crops and error maps of images in folders',
        description='Draws ground truth, bicubic and the images of every folder side by side, with PSNR and SSIM of '
        'the crops: where the methods differ most, or where --crop says. (`kdsr compare` draws them for its own runs.)',
    )
    pictures.add_argument('gt', help='folder of the ground truth')
    pictures.add_argument(
        'folders',
        nargs='+',
        metavar='[LABEL=]FOLDER',
        help='folders of results, for example visualization/Set5 of a test',
    )
    pictures.add_argument('--scale', type=int, help='also draw bicubic at this scale, made from the ground truth')
    pictures.add_argument('--crop', nargs='+', default=[], metavar='IMAGE:X,Y,W,H', help='crops chosen by hand')
    pictures.add_argument('--count', type=int, metavar='N', default=3, help='how many photos to choose (default: 3)')
    add_size(pictures, 'side of the chosen crops in pixels (default: 96)', 96, square=True)
    add_out(pictures, 'DIR', 'folder (default: results/pictures)', 'results/pictures')
    pictures.set_defaults(run=_pictures)


def add_all(commands: Commands) -> None:
    """Add the commands of this file."""
    add_diagnose(commands)
    add_attribution(commands)
    add_pictures(commands)
