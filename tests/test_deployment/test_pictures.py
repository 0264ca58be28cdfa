"""Image files come back as they went, with everything that matters in them."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from kdsr.deployment.pictures import Picture, encode, read_picture
from kdsr.errors import UserError

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()


def pixels(channels, dtype, height=9, width=14):
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(channels).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def saved(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


@pytest.mark.parametrize('kind', ['PNG', 'TIFF'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_lossless_formats_keep_every_bit_and_the_profile(tmp_path, kind, dtype, channels):
    picture = Picture(pixels(channels, dtype), PROFILE)
    if (kind, dtype, channels) == ('TIFF', np.uint16, 2):
        pytest.skip('OpenCV reads no grey 16-bit TIFF with alpha')
    back = read_picture(saved(tmp_path, encode(picture, kind, 'x'), f'x.{kind.lower()}'))
    assert back.pixels.dtype == dtype
    np.testing.assert_array_equal(back.pixels, picture.pixels)
    assert back.profile == PROFILE


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_others_read_our_16_bit_files_the_same(tmp_path, channels):
    tifffile = pytest.importorskip('tifffile')
    picture = Picture(pixels(channels, np.uint16), PROFILE)
    with tifffile.TiffFile(io.BytesIO(encode(picture, 'TIFF', 'x'))) as file:
        np.testing.assert_array_equal(file.asarray(), picture.pixels)
        assert file.pages[0].tags[34675].value == PROFILE
    png = cv2.imdecode(np.frombuffer(encode(picture, 'PNG', 'x'), np.uint8), cv2.IMREAD_UNCHANGED)
    expected = {1: lambda a: a, 2: lambda a: a[..., [0, 0, 0, 1]], 3: lambda a: a[..., ::-1]}
    np.testing.assert_array_equal(png, expected.get(channels, lambda a: a[..., [2, 1, 0, 3]])(picture.pixels))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('name', ['x.jpg', 'x.png', 'x.webp', 'x.tif', 'deep.png'])
def test_photos_are_turned_upright_and_say_so(tmp_path, orientation, name):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, 'a photo'
    image = Image.fromarray(np.kron(pixels(3, np.uint8, 4, 6), np.ones((8, 8, 1), np.uint8)))
    path = tmp_path / name
    if name == 'deep.png':
        deep = np.asarray(image).astype(np.uint16) * 257
        path.write_bytes(encode(Picture(deep, exif=exif.tobytes()), 'PNG', 'x'))
    else:
        image.save(path, exif=exif, **({'quality': 95, 'subsampling': 0} if name == 'x.jpg' else {}))
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert('RGB'))
    picture = read_picture(path)
    read = picture.pixels if picture.pixels.dtype == np.uint8 else (picture.pixels // 257).astype(np.uint8)
    np.testing.assert_array_equal(read, expected)
    if name in ('x.jpg', 'x.png', 'deep.png'):
        again = Image.open(io.BytesIO(encode(picture, 'JPEG', 'x'))).getexif()
        assert dict(again) == {0x010E: 'a photo'}


def test_palettes_and_single_bits_become_colours_and_grey(tmp_path):
    image = Image.fromarray(pixels(3, np.uint8)).quantize(8)
    image.save(tmp_path / 'palette.png')
    np.testing.assert_array_equal(read_picture(tmp_path / 'palette.png').pixels, np.asarray(image.convert('RGB')))
    image.save(tmp_path / 'clear.png', transparency=0)
    assert read_picture(tmp_path / 'clear.png').pixels.shape == (9, 14, 4)
    Image.fromarray(pixels(1, np.uint8)).convert('1').save(tmp_path / 'bits.png')
    assert read_picture(tmp_path / 'bits.png').pixels.max() == 255


def test_8_bit_formats_round_16_bits():
    deep = Picture(np.array([[0, 128, 129, 65535]], np.uint16))
    with Image.open(io.BytesIO(encode(deep, 'WEBP', 'x'))) as image:
        np.testing.assert_array_equal(np.asarray(image.convert('L')), [[0, 0, 1, 255]])


def test_what_would_lose_something_is_refused(tmp_path):
    Image.new('CMYK', (4, 4)).save(tmp_path / 'print.jpg')
    Image.new('F', (4, 4)).save(tmp_path / 'float.tif')
    frames = [Image.new('RGB', (4, 4), colour) for colour in ('red', 'blue')]
    frames[0].save(tmp_path / 'moving.webp', save_all=True, append_images=frames[1:], lossless=True)
    (tmp_path / 'text.png').write_text('hello')
    whole = encode(Picture(pixels(3, np.uint8, 64, 64)), 'PNG', 'x')
    saved(tmp_path, whole[: len(whole) // 2], 'cut.png')
    reasons = {'print.jpg': 'CMYK', 'float.tif': 'colours are F', 'moving.webp': '2 frames', 'text.png': 'no image',
               'cut.png': 'damaged', 'missing.png': 'cannot be read'}  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=rf'{name}: .*{reason}'):
            read_picture(tmp_path / name)
    with pytest.raises(UserError, match='--format png'):
        encode(Picture(pixels(4, np.uint8)), 'JPEG', 'x')
