"""Draw the diagrams of docs/methods: one function per method, in the words of drawing.py.

python scripts/method_pictures/draw_methods.py
"""

from pathlib import Path

from draw_features import attention_transfer, facd, fakd, fitnet, lsfd
from draw_images import csd, dukd, mtkd, response
from draw_networks import pisr, rfdn
from drawing import Picture

FOLDER = Path(__file__).parents[2] / 'docs' / 'methods'
DRAWINGS = {
    'mtkd': (mtkd, 'MTKD: the images of several teachers are fused into one, whose wavelet bands the student copies'),
    'lsfd': (lsfd, 'LSFD: normalised features are compared, above all where the image of the student is wrong'),
    'facd': (facd, 'FACD: features near those of the same patch, far from other patches, where the teacher is better'),
    'pisr': (pisr, 'PISR: a teacher that sees the ground truth gives its decoder to the student, and its features'),
    'rfdn': (rfdn, 'RFDN: the network and its block'),
    'fitnet': (fitnet, 'FitNet: a 1x1 convolution brings the student feature to the width of the teacher feature'),
    'attention_transfer': (
        attention_transfer,
        'Attention transfer: normalised maps of squared activations are compared',
    ),
    'fakd': (fakd, 'FAKD: the cosines between all positions of a feature are compared, without a regressor'),
    'response': (
        response,
        'Response distillation: the student copies the image of the teacher, or the mean of several',
    ),
    'dukd': (dukd, 'DUKD: the student also learns from zoomed images that are made of the training pair'),
    'csd': (csd, 'CSD: near the image of the teacher, far from bicubic images, as a frozen extractor sees them'),
}


def draw(name):
    """Return the file of a method's diagram."""
    function, title = DRAWINGS[name]
    picture = Picture(title)
    return picture.svg(function(picture))


if __name__ == '__main__':
    FOLDER.mkdir(exist_ok=True)
    for method in DRAWINGS:
        (FOLDER / f'{method}.svg').write_text(draw(method), encoding='utf-8')
