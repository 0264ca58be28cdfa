"""Image files of any origin: the values of the file, upright, or a refusal that says why."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from kdsr.errors import UserError
from kdsr.image_files.picture import layout_of
from kdsr.image_files.reading import read_picture
from kdsr.image_files.writing import write_rows
from tests.helpers.image_files import pixels, png, tiff

UPRIGHT = {  # orientation: what EXIF says of the stored rows and columns, written out
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1], 8: lambda a: a.swapaxes(0, 1)[::-1],
}  # fmt: skip


def read(content):
    return read_picture(content, 'x')


def orientation_tag(value):
    return [(274, 3, [value])]


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('name', ['x.jpg', 'x.png', 'x.webp', 'x.tif'])
def test_8_bit_photos_are_turned_upright_once(tmp_path, orientation, name):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, 'a photo'
    image = Image.fromarray(np.kron(pixels(3, np.uint8, 4, 6), np.ones((8, 8, 1), np.uint8)))
    image.save(tmp_path / name, exif=exif, **({'quality': 95, 'subsampling': 0} if name == 'x.jpg' else {}))
    with Image.open(tmp_path / name) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert('RGB'))
    picture = read_picture(tmp_path / name)
    np.testing.assert_array_equal(picture.pixels, expected)
    again = io.BytesIO()
    assert write_rows(again, [picture.pixels], picture.layout, 'JPEG', metadata=picture.metadata) == []
    assert dict(Image.open(again).getexif()) == {0x010E: 'a photo'}


@pytest.mark.parametrize('orientation', range(1, 9))
def test_16_bit_tiffs_are_turned_upright_once(orientation):
    stored = pixels(3, np.uint16, 5, 8)
    content = tiff([stored.tobytes()], 8, 5, bits=(16, 16, 16), photometric=2, more=orientation_tag(orientation))
    np.testing.assert_array_equal(read(content).pixels, UPRIGHT[orientation](stored))


@pytest.mark.parametrize('orientation', range(1, 9))
def test_16_bit_tiffs_that_only_opencv_decodes_are_turned_once_too(orientation):
    """LZW, without imagecodecs; OpenCV turns what it reads by itself."""
    stored = pixels(3, np.uint16, 20, 30)
    encoded = bytearray(cv2.imencode('.tif', stored[..., ::-1])[1].tobytes())
    (start,) = struct.unpack_from('<I', encoded, 4)
    (count,) = struct.unpack_from('<H', encoded, start)
    entries = [bytes(encoded[start + 2 + 12 * i : start + 14 + 12 * i]) for i in range(count)]
    assert struct.unpack_from('<HHIH', next(e for e in entries if e[:2] == b'\x03\x01'))[3] == 5, 'LZW'
    entries.append(struct.pack('<HHII', 274, 3, 1, orientation))
    entries.sort(key=lambda entry: struct.unpack_from('<H', entry)[0])
    directory = struct.pack('<H', count + 1) + b''.join(entries) + struct.pack('<I', 0)
    content = bytes(encoded[:4]) + struct.pack('<I', len(encoded)) + bytes(encoded[8:]) + directory
    np.testing.assert_array_equal(read(content).pixels, UPRIGHT[orientation](stored))


@pytest.mark.parametrize('orientation', [3, 6])
def test_16_bit_pngs_are_turned_upright_once(orientation):
    stored = pixels(3, np.uint16, 5, 8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = png(stored, 16, 2, (b'eXIf', exif.tobytes()[6:]))
    np.testing.assert_array_equal(read(content).pixels, UPRIGHT[orientation](stored))


def test_planes_of_a_tiff_are_put_together():
    image = pixels(3, np.uint16, 5, 8)
    planes = [np.ascontiguousarray(image[..., c]).tobytes() for c in range(3)]
    content = tiff(planes, 8, 5, bits=(16, 16, 16), photometric=2, planar=2)
    np.testing.assert_array_equal(read(content).pixels, image)


@pytest.mark.parametrize(('dtype', 'bits'), [(np.uint8, 8), (np.uint16, 16)])
def test_inverted_grey_is_turned_round(dtype, bits):
    image = pixels(1, dtype, 5, 8)
    content = tiff([image.tobytes()], 8, 5, bits=(bits,), photometric=0)
    np.testing.assert_array_equal(read(content).pixels, np.iinfo(dtype).max - image)


def test_colours_that_alpha_is_multiplied_into_are_divided_by_it():
    colours, alpha = pixels(3, np.uint16, 5, 8), pixels(1, np.uint16, 5, 8)
    alpha[:2, :3] = 0
    alpha[2:] = np.maximum(alpha[2:], 20000)
    multiplied = np.rint(colours * (alpha[..., None] / 65535)).astype(np.uint16)
    content = tiff([np.dstack([multiplied, alpha]).tobytes()], 8, 5, bits=(16,) * 4, photometric=2, extra=(1,))
    found = read(content).pixels
    np.testing.assert_array_equal(found[..., 3], alpha)
    assert np.abs(found[2:, :, :3].astype(int) - colours[2:]).max() <= 2
    assert (found[:2, :3, :3] == 0).all()


@pytest.mark.parametrize(('dtype', 'bits'), [(np.uint8, 8), (np.uint16, 16)])
def test_a_channel_without_a_meaning_is_kept_as_transparency_with_a_warning(dtype, bits):
    image = pixels(4, dtype, 5, 8)
    content = tiff([image.tobytes()], 8, 5, bits=(bits,) * 4, photometric=2, extra=(0,))
    picture = read(content)
    np.testing.assert_array_equal(picture.pixels, image)
    assert 'taken for transparency' in picture.warnings[0]


def test_what_follows_the_first_page_may_be_rubbish():
    image = pixels(3, np.uint8, 5, 8)
    whole = tiff([image.tobytes()], 8, 5, bits=(8, 8, 8), photometric=2)
    content = tiff([image.tobytes()], 8, 5, bits=(8, 8, 8), photometric=2, next_page=len(whole))
    content += struct.pack('<HHHII', 1, 305, 4, 1, 0) + struct.pack('<I', 0)  # a page without width and height
    picture = read(content)
    np.testing.assert_array_equal(picture.pixels, image)
    assert any('follows its first page' in warning for warning in picture.warnings)


@pytest.mark.parametrize(('content', 'reason'), [
    (tiff([bytes(80)] * 2, 8, 5, bits=(16, 16), extra=(2,), photometric=0), 'inverted grey'),
    (tiff([bytes(400)], 8, 5, bits=(16,) * 5, photometric=2, extra=(2, 0)), '2 channels beside'),
    (tiff([bytes(320)], 8, 5, bits=(16,) * 4, photometric=5), 'colours are'),
    (tiff([bytes(240)], 8, 5, bits=(16,) * 3, photometric=32803), 'damaged|colours are'),
    (tiff([bytes(120)], 8, 5, bits=(8,) * 3, photometric=2, subfile=1), 'RAW'),
], ids=['inverted with alpha', 'two extra channels', 'CMYK with 16 bits', 'colour filter array', 'RAW'])  # fmt: skip
def test_other_layouts_are_refused_with_a_reason(content, reason):
    with pytest.raises(UserError, match=reason):
        read(content)


def test_a_compression_without_a_decoder_is_refused(monkeypatch):
    encoded = cv2.imencode('.tif', pixels(3, np.uint16))[1].tobytes()
    monkeypatch.setattr(cv2, 'imdecode', lambda *args: None)
    with pytest.raises(UserError, match='damaged'):
        read(encoded)


def test_one_transparent_colour_of_a_16_bit_png_is_transparency():
    grey = np.array([[5, 7, 5], [49614, 0, 65535]], np.uint16)
    found = read(png(grey, 16, 0, (b'tRNS', struct.pack('>H', 5)))).pixels
    np.testing.assert_array_equal(found[..., 0], grey)
    np.testing.assert_array_equal(found[..., 1], [[0, 65535, 0], [65535] * 3])
    colours = pixels(3, np.uint16, 3, 4)
    colours[1, 2] = (1, 2, 3)
    found = read(png(colours, 16, 2, (b'tRNS', struct.pack('>3H', 1, 2, 3)))).pixels
    np.testing.assert_array_equal(found[..., :3], colours)
    assert (found[..., 3] == 0).sum() == 1
    assert found[1, 2, 3] == 0


def test_palettes_and_single_bits_become_colours_and_grey(tmp_path):
    image = Image.fromarray(pixels(3, np.uint8)).quantize(8)
    image.save(tmp_path / 'palette.png')
    np.testing.assert_array_equal(read_picture(tmp_path / 'palette.png').pixels, np.asarray(image.convert('RGB')))
    image.save(tmp_path / 'clear.png', transparency=0)
    assert read_picture(tmp_path / 'clear.png').pixels.shape == (9, 14, 4)
    Image.fromarray(pixels(1, np.uint8)).convert('1').save(tmp_path / 'bits.png')
    assert read_picture(tmp_path / 'bits.png').pixels.max() == 255


@pytest.mark.parametrize('name', ['x.jfif', 'x.gif', 'x.tga', 'x.avif', 'x.jp2', 'x.qoi', 'x.ppm', 'x.pcx', 'x.ico'])
def test_other_formats_that_pillow_opens(tmp_path, name):
    image = Image.fromarray(np.kron(pixels(3, np.uint8, 4, 4), np.ones((8, 8, 1), np.uint8)))
    options = {'x.ico': {'sizes': [(32, 32)]}, 'x.avif': {'quality': 100}}
    if name[1:] not in Image.registered_extensions():
        pytest.skip('this Pillow does not know it')  # AVIF came with 11.3
    try:
        image.save(tmp_path / name, **options.get(name, {}))
    except (OSError, KeyError) as error:
        pytest.skip(f'this Pillow does not write it: {error}')
    with Image.open(tmp_path / name) as stored:
        expected = np.asarray(stored.convert('RGB'))
    np.testing.assert_array_equal(read_picture(tmp_path / name).pixels[..., :3], expected)


def test_deep_colours_are_not_rounded_by_formats_in_which_pillow_does():
    deep = pixels(3, np.uint16)
    ppm = b'P6\n# a comment\n14 9\n65535\n' + deep.astype('>u2').tobytes()
    np.testing.assert_array_equal(read(ppm).pixels, deep)
    large = pixels(3, np.uint16, 64, 96)
    j2k = cv2.imencode('.jp2', large[..., ::-1], [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
    np.testing.assert_array_equal(read(j2k).pixels, large)


def test_cmyk_goes_through_its_profile(tmp_path):
    image = Image.fromarray(pixels(4, np.uint8, 16, 16), 'CMYK')
    image.save(tmp_path / 'bare.tif')
    with pytest.raises(UserError, match='CMYK without a colour profile'):
        read_picture(tmp_path / 'bare.tif')
    rgb_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    image.save(tmp_path / 'wrong.tif', icc_profile=rgb_profile)
    with pytest.raises(UserError, match='does not fit'):
        read_picture(tmp_path / 'wrong.tif')
    profile = cmyk_profile()
    image.save(tmp_path / 'print.tif', icc_profile=profile)
    picture = read_picture(tmp_path / 'print.tif')
    assert picture.pixels.shape == (16, 16, 3)
    white, black = (read_cmyk(tmp_path, profile, inks) for inks in ((0, 0, 0, 0), (0, 0, 0, 255)))
    assert white.min() > 240
    assert black.max() < 40
    embedded = ImageCms.ImageCmsProfile(io.BytesIO(picture.metadata.profile))
    assert 'sRGB' in ImageCms.getProfileDescription(embedded)


def read_cmyk(folder, profile, inks):
    Image.new('CMYK', (4, 4), inks).save(folder / 'one.tif', icc_profile=profile)
    return read_picture(folder / 'one.tif').pixels


def cmyk_profile():
    """A printer profile with one table from inks to Lab: lightness falls with the sum of the inks."""

    def tag(kind, data):
        return kind + b'\0' * 4 + data

    grid = 2
    table = b''
    for inks in np.ndindex(*(grid,) * 4):
        lightness = max(0.0, 1 - inks[3] - 0.3 * sum(inks[:3]))
        table += struct.pack('>3B', round(255 * lightness), 128, 128)
    identity = struct.pack('>9i', *[65536 * (i % 4 == 0) for i in range(9)])
    ramp = bytes(range(256))
    lut = tag(b'mft1', struct.pack('>4B', 4, 3, grid, 0) + identity + ramp * 4 + table + ramp * 3)
    white = tag(b'XYZ ', struct.pack('>3i', 63190, 65536, 54061))
    text = tag(b'text', b'test\0')
    description = tag(b'desc', struct.pack('>I', 5) + b'test\0' + bytes(78))
    tags = [(b'A2B0', lut), (b'desc', description), (b'wtpt', white), (b'cprt', text)]
    offset, directory, data = 128 + 4 + 12 * len(tags), b'', b''
    for name, content in tags:
        content += b'\0' * (-len(content) % 4)
        directory += name + struct.pack('>2I', offset + len(data), len(content))
        data += content
    size = offset + len(data)
    head = struct.pack('>I4sI4s4s4s', size, b'lcms', 0x02400000, b'prtr', b'CMYK', b'Lab ') + bytes(12) + b'acsp'
    head += bytes(24) + struct.pack('>I3i', 0, 63190, 65536, 54061) + bytes(128)
    return head[:128] + struct.pack('>I', len(tags)) + directory + data


def test_what_would_lose_something_is_refused(tmp_path):
    Image.new('F', (4, 4)).save(tmp_path / 'float.tif')
    frames = [Image.new('RGB', (4, 4), colour) for colour in ('red', 'blue')]
    for name in ('moving.webp', 'moving.gif', 'moving.png', 'pages.tif'):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    (tmp_path / 'text.png').write_text('hello')
    whole = io.BytesIO()
    Image.fromarray(pixels(3, np.uint8, 64, 64)).save(whole, 'PNG')
    (tmp_path / 'cut.png').write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (tmp_path / 'cut16.png').write_bytes(png(pixels(3, np.uint16, 64, 64), 16, 2)[:9000])
    (tmp_path / 'folder.png').mkdir()
    reasons = {'float.tif': 'colours are F', 'moving.webp': '2 frames', 'moving.gif': '2 frames',
               'moving.png': '2 frames', 'pages.tif': '2 frames or pages', 'text.png': 'no image', 'cut.png': 'damaged',
               'cut16.png': 'damaged', 'missing.png': 'cannot be read', 'folder.png': 'not a file'}  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=rf'{name}: .*{reason}'):
            read_picture(tmp_path / name)


@pytest.mark.parametrize(('content', 'kind'), [
    (b'\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'HEIC'),
    (b'\xff\x0a\x10\x20', 'JPEG XL'),
    (b'\0\0\0\x0cJXL \r\n\x87\n', 'JPEG XL'),
    (b'v/1\x01\2\0\0\0', 'OpenEXR'),
    (b'%PDF-1.7\n', 'PDF'),
    (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 'SVG'),
])  # fmt: skip
def test_kinds_that_are_not_read_are_named(content, kind):
    with pytest.raises(UserError, match=f'it is a {kind} file, which is not read. Convert it'):
        read_picture(content)


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes with names here')
def test_pipes_and_devices_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / 'pipe.png')
    for path in (tmp_path / 'pipe.png', '/dev/zero'):
        with pytest.raises(UserError, match='not a file'):
            read_picture(type(tmp_path)(path))


def test_large_images_are_read_on_request():
    content = png(np.zeros((20, 30), np.uint8), 8, 0)
    assert layout_of(read_picture(content, 'x', max_pixels=600).pixels).width == 30
    with pytest.raises(UserError, match='--max-megapixels'):
        read_picture(content, 'x', max_pixels=599)
    limit = Image.MAX_IMAGE_PIXELS
    huge = png(np.zeros((1, 1), np.uint8), 8, 0)
    head = b'IHDR' + struct.pack('>II', 20_000, 20_000) + huge[24:29]
    huge = huge[:12] + head + struct.pack('>I', zlib.crc32(head)) + huge[33:]
    with pytest.raises(UserError, match='20000x20000 pixels'):
        read_picture(huge, 'x')
    with pytest.raises(UserError, match='damaged'):
        read_picture(huge, 'x', max_pixels=10**9)
    assert limit == Image.MAX_IMAGE_PIXELS
