"""Images that are written row by row: every bit kept, and read the same by other libraries."""

import io

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from kdsr.errors import UserError
from kdsr.image_files import jpeg_writing, tiff_writing
from kdsr.image_files.formats import PixelLayout, check_layout
from kdsr.image_files.metadata import Metadata
from kdsr.image_files.picture import layout_of
from kdsr.image_files.reading import read_picture
from kdsr.image_files.rows import in_blocks
from kdsr.image_files.writing import write_rows
from tests.helpers.image_files import pixels

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()


def encode(image, kind, step=7, **settings):
    """Write an image in blocks of `step` rows."""
    file = io.BytesIO()
    write_rows(file, (image[i : i + step] for i in range(0, len(image), step)), layout_of(image), kind, **settings)
    return file.getvalue()


def smooth(height, width):
    noise = pixels(3, np.uint8, height // 8 + 1, width // 8 + 1)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize('kind', ['PNG', 'TIFF'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('height', [1, 64, 150])
def test_lossless_formats_keep_every_bit_and_the_profile(kind, dtype, channels, height):
    image = pixels(channels, dtype, height, 23)
    back = read_picture(encode(image, kind, metadata=Metadata(profile=PROFILE)))
    assert back.pixels.dtype == dtype
    np.testing.assert_array_equal(back.pixels, image)
    assert back.metadata.profile == PROFILE


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_others_read_our_files_the_same(dtype, channels):
    image = pixels(channels, dtype, 140, 23)
    with tifffile.TiffFile(io.BytesIO(encode(image, 'TIFF', metadata=Metadata(profile=PROFILE)))) as file:
        np.testing.assert_array_equal(file.asarray(), image)
        assert file.pages[0].tags[34675].value == PROFILE
        assert [int(kind) for kind in file.pages[0].extrasamples] == ([2] if channels in (2, 4) else [])
    png = encode(image, 'PNG')
    found = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    expected = {1: lambda a: a, 2: lambda a: a[..., [0, 0, 0, 1]], 3: lambda a: a[..., ::-1]}
    np.testing.assert_array_equal(found, expected.get(channels, lambda a: a[..., [2, 1, 0, 3]])(image))
    if dtype == np.uint8:
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), image)


@pytest.mark.parametrize('image', [smooth(300, 130), np.zeros((90, 40, 3), np.uint8), pixels(3, np.uint8, 70, 31)])
def test_png_files_are_about_as_small_as_those_of_pillow(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'PNG')
    assert len(encode(image, 'PNG')) < 1.1 * len(file.getvalue()) + 100


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('height', [513, 1024, 1500])
@pytest.mark.parametrize('width', [8, 237])
def test_jpeg_in_strips_is_the_jpeg_of_the_whole(channels, height, width):
    image = smooth(height, width) if channels == 3 else smooth(height, width)[..., 0]
    assert height > jpeg_writing.STRIP
    whole = io.BytesIO()
    Image.fromarray(image).save(whole, 'JPEG', quality=95, subsampling=0)
    content = encode(image, 'JPEG', step=50, metadata=Metadata(profile=PROFILE, dpi=(300, 300)))
    with Image.open(io.BytesIO(content)) as strips:
        assert strips.size == (width, height)
        assert strips.info['icc_profile'] == PROFILE
        assert strips.info['dpi'] == (300, 300)
        np.testing.assert_array_equal(np.asarray(strips), np.asarray(Image.open(whole)))
    flag = cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE
    np.testing.assert_array_equal(
        cv2.imdecode(np.frombuffer(content, np.uint8), flag),
        cv2.imdecode(np.frombuffer(whole.getvalue(), np.uint8), flag),
    )


def test_quality_changes_the_size():
    image = smooth(600, 200)
    assert len(encode(image, 'JPEG', quality=50)) < len(encode(image, 'JPEG')) < len(encode(image, 'JPEG', quality=100))
    assert len(encode(image, 'WEBP', quality=50)) < len(encode(image, 'WEBP'))
    np.testing.assert_array_equal(read_picture(encode(image, 'WEBP')).pixels, image)


def test_webp_keeps_the_colours_under_alpha_0():
    image = pixels(4, np.uint8, 40, 30)
    image[:20, :, 3] = 0
    np.testing.assert_array_equal(read_picture(encode(image, 'WEBP')).pixels, image)


def test_8_bit_formats_round_16_bits():
    deep = np.array([[0, 128, 129, 65535]], np.uint16)
    with Image.open(io.BytesIO(encode(deep, 'WEBP'))) as image:
        np.testing.assert_array_equal(np.asarray(image.convert('L')), [[0, 0, 1, 255]])


def test_large_tiffs_have_64_bit_offsets(monkeypatch):
    image = pixels(4, np.uint16, 70, 31)
    assert encode(image, 'TIFF')[:4] == b'II*\0'
    monkeypatch.setattr(tiff_writing, '_CLASSIC_LIMIT', 1000)
    content = encode(image, 'TIFF')
    assert content[:4] == b'II+\0'
    np.testing.assert_array_equal(read_picture(content).pixels, image)


@pytest.mark.parametrize(('kind', 'layout', 'reason'), [
    ('JPEG', PixelLayout(10, 10, 4), '--format png'),
    ('BMP', PixelLayout(10, 10, 2), '--format png'),
    ('WEBP', PixelLayout(10, 16_384, 3), '16,383'),
    ('JPEG', PixelLayout(65_501, 10, 3), '65,500'),
])  # fmt: skip
def test_what_a_format_does_not_hold_is_refused_before_any_row_is_asked_for(kind, layout, reason):
    def rows():
        raise AssertionError('computed')
        yield

    with pytest.raises(UserError, match=reason):
        write_rows(io.BytesIO(), rows(), layout, kind, name='x')
    check_layout(PixelLayout(16_383, 16_383, 4), 'WEBP', 'x')


def test_rows_are_asked_for_as_they_are_written():
    """No more than a strip waits in memory: the file grows while rows come."""
    for kind in ('PNG', 'JPEG', 'TIFF'):
        file, sizes = io.BytesIO(), []

        def rows(file=file, sizes=sizes):
            for i in range(40):
                sizes.append(file.tell())
                yield pixels(3, np.uint8, 64, 300, seed=i)

        write_rows(file, rows(), PixelLayout(2560, 300, 3), kind)
        assert len(set(sizes)) > 3, kind
        assert sizes[-1] > 0.6 * len(file.getvalue())


def test_blocks_have_one_height():
    image = np.arange(50).reshape(25, 2)
    for cuts in ([25], [1] * 25, [3, 14, 8], [10, 15]):
        parts = np.split(image, np.cumsum(cuts)[:-1])
        blocks = list(in_blocks(parts, 8))
        assert [len(block) for block in blocks] == [8, 8, 8, 1]
        np.testing.assert_array_equal(np.concatenate(blocks), image)
