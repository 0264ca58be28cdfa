"""Draw what MTKD's wavelet loss and LSFD's map see in a photo: docs/methods/mtkd_bands.png and lsfd_map.png.

    python scripts/method_pictures/draw_photos.py

No network is needed: the photo (scikit-image's astronaut, public domain) stands in for the teacher's image T, its
bicubic x4 reduction, enlarged again, for the student's S.
"""

import io
from pathlib import Path

import matplotlib as mpl
import pywt
import torch
from PIL import Image
from skimage import data

from kdsr.archs.bicubic import BicubicUpsample
from kdsr.distillation.bicubic import bicubic_downscale
from kdsr.losses.lsfd_loss import selective_map

mpl.use('Agg')
from matplotlib import pyplot as plt

FOLDER = Path(__file__).parents[2] / 'docs' / 'methods'
SCALE = 4
PART = (slice(0, 192), slice(128, 320))  # rows and columns: the face
STRETCH = 4  # contrast of the high bands in the picture
COLOURS = 128  # of the files
BANDS = ('LL', 'LH', 'HL', 'HH')


def images():
    """Return (1, 3, H, W) in [0, 1]: the low-resolution image, what stands in for S, and what does for T."""
    photo = torch.from_numpy(data.astronaut()[PART]).permute(2, 0, 1)[None] / 255
    low = bicubic_downscale(photo, SCALE).clamp(0, 1)
    return low, BicubicUpsample(SCALE)(low).detach().clamp(0, 1), photo


def haar_bands(image):
    """Return name to (h, w), the mean over the colours: LL from 0 to 1, the others around 0."""
    low, (rows, columns, both) = pywt.dwt2(image[0].mean(0).numpy(), 'haar')
    return dict(zip(BANDS, (low / 2, rows, columns, both)))


def band_distances(image, target):
    """Return name to mean absolute difference, every colour on its own; their mean is what WaveletLoss gives."""
    low, high = pywt.dwt2((image - target)[0].numpy(), 'haar')
    return {name: abs(band).mean() for name, band in zip(BANDS, (low, *high))}


def show(axes, picture, title, **how):
    axes.imshow(picture, interpolation='nearest', **how)
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def colour(image):
    return image[0].permute(1, 2, 0).numpy()


def mtkd_bands():
    """Draw the four bands of S and T, and how far apart they are."""
    _, student, teacher = images()
    ours, theirs = haar_bands(student), haar_bands(teacher)
    distances = band_distances(student, teacher)
    figure, table = plt.subplots(2, 5, figsize=(9.6, 4.3))
    for row, (image, bands, name) in enumerate(
        ((student, ours, 'S: enlarged from LR'), (teacher, theirs, 'T: the photo'))
    ):
        show(table[row, 0], colour(image), name)
        for axes, band in zip(table[row, 1:], BANDS):
            grey = bands[band] if band == 'LL' else 0.5 + STRETCH * bands[band] / 2
            title = band if row == 0 else f'{band}, mean difference {distances[band]:.3f}'
            show(axes, grey, title, cmap='gray', vmin=0, vmax=1)
    return figure


def lsfd_map():
    """Draw the low-resolution image, S, T, and the map M at the size of the features."""
    low, student, teacher = images()
    figure, table = plt.subplots(1, 4, figsize=(9.6, 2.75))
    attention = selective_map(student, teacher, low.shape[-2:])[0, 0]
    for axes, image, name in zip(table, (low, student, teacher), ('LR', 'S: enlarged from LR', 'T: the photo')):
        show(axes, colour(image), name)
    show(table[3], attention, 'M: large where S is wrong', cmap='inferno', vmin=0)
    return figure


def write(figure, path):
    """Write the figure with few colours, which makes the file small."""
    figure.tight_layout(pad=0.7, w_pad=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, facecolor='white')
    plt.close(figure)
    Image.open(buffer).convert('RGB').quantize(COLOURS).save(path, optimize=True)


if __name__ == '__main__':
    write(mtkd_bands(), FOLDER / 'mtkd_bands.png')
    write(lsfd_map(), FOLDER / 'lsfd_map.png')
