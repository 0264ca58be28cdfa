"""Metadata: kept where the format of the result holds it, told where it does not, never in the way of the image."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin, features

from kdsr.image_files.picture import layout_of
from kdsr.image_files.reading import read_picture
from kdsr.image_files.writing import write_rows
from tests.helpers.image_files import pixels, png, read_png_chunks

IMAGE = pixels(3, np.uint8, 16, 24)
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description tiff:Orientation="6" exif:PixelXDimension="24" dc:title="kept">'
    b'<tiff:ImageLength>16</tiff:ImageLength></rdf:Description></rdf:RDF></x:xmpmeta>'
)


def saved(kind='PNG', image=IMAGE, **settings):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **settings)
    return file.getvalue()


def enlarged(content, kind):
    """Return the file of an image twice as large, opened, with the sentences about what was dropped."""
    picture = read_picture(content)
    large = picture.pixels.repeat(2, axis=0).repeat(2, axis=1)
    file = io.BytesIO()
    told = [
        *picture.warnings,
        *write_rows(file, [large], layout_of(large), kind, metadata=picture.metadata),
    ]
    return file.getvalue(), Image.open(io.BytesIO(file.getvalue())), told


def photo_exif():
    exif = Image.Exif()
    exif[0x010F], exif[0x8298] = 'Maker', 'nobody'
    exif[ExifTags.IFD.Exif] = {0xA002: 24, 0xA003: 16, 0x9003: '2020:01:01 00:00:00'}
    return exif


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'WEBP'])
def test_exif_is_kept_and_says_the_new_size(kind):
    _, image, told = enlarged(saved('JPEG', exif=photo_exif()), kind)
    exif = image.getexif()
    assert (exif[0x010F], exif[0x8298]) == ('Maker', 'nobody')
    assert dict(exif.get_ifd(ExifTags.IFD.Exif)) == {0xA002: 48, 0xA003: 32, 0x9003: '2020:01:01 00:00:00'}
    assert told == []


def test_tiff_keeps_the_texts_of_exif_and_tells_the_rest():
    _, image, told = enlarged(saved('JPEG', exif=photo_exif()), 'TIFF')
    assert (image.tag_v2[0x010F], image.tag_v2[0x8298]) == ('Maker', 'nobody')
    assert told == ['TIFF does not hold what EXIF holds beside texts: dropped']
    assert enlarged(saved('TIFF', tiffinfo={270: 'words', 315: 'nobody'}), 'TIFF')[2] == []
    assert enlarged(saved('TIFF', tiffinfo={270: 'words', 315: 'nobody'}), 'JPEG')[1].getexif()[270] == 'words'


def test_a_preview_of_the_old_size_is_dropped():
    """An EXIF block with a second directory, as cameras write it."""
    preview = saved('JPEG', image=IMAGE[:8, :8])
    head = b'Exif\0\0II*\0' + struct.pack('<I', 8)
    first = struct.pack('<HHHII', 1, 0x010F, 2, 4, int.from_bytes(b'abc\0', 'little')) + struct.pack('<I', 26)
    entries = [(0x0103, 6), (0x0201, 68), (0x0202, len(preview))]
    second = struct.pack('<H', 3) + b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in entries)
    content = saved('JPEG', exif=head + first + second + struct.pack('<I', 0) + preview)
    assert preview in content
    assert Image.open(io.BytesIO(content)).getexif().get_ifd(ExifTags.IFD.IFD1)
    after, image, told = enlarged(content, 'JPEG')
    assert image.getexif()[0x010F] == 'abc'
    assert not image.getexif().get_ifd(ExifTags.IFD.IFD1)
    assert preview not in after
    assert told == []


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'WEBP', 'TIFF'])
def test_xmp_is_kept_upright_and_of_the_new_size(kind):
    _, image, told = enlarged(saved('JPEG', xmp=XMP, image=IMAGE.copy()), kind)
    packet = image.info['xmp']
    packet = packet if isinstance(packet, bytes) else packet.encode()
    assert b'dc:title="kept"' in packet
    assert b'tiff:Orientation="1"' in packet
    sides = (b'48', b'32') if b'"32"' not in packet else (b'32', b'48')  # the orientation turned the image
    assert b'exif:PixelXDimension="' + sides[0] + b'"' in packet
    assert b'<tiff:ImageLength>' + sides[1] + b'</tiff:ImageLength>' in packet
    assert told == []


@pytest.mark.parametrize('source', ['PNG', 'JPEG', 'TIFF'])
@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'TIFF', 'BMP'])
def test_the_resolution_is_kept(source, kind):
    _, image, told = enlarged(saved(source, dpi=(300, 200)), kind)
    assert image.info['dpi'] == pytest.approx((300, 200), abs=0.1)
    assert told == []


def test_a_resolution_that_a_format_does_not_hold_is_told():
    assert enlarged(saved('JPEG', dpi=(300, 300)), 'WEBP')[2] == ['WEBP does not hold the resolution: dropped']
    assert enlarged(saved('JPEG'), 'WEBP')[2] == []


def test_colour_and_text_of_a_png_stay_as_they_are():
    text = PngImagePlugin.PngInfo()
    text.add_text('Title', 'a picture')
    text.add_itxt('Author', 'jemand', lang='de')
    with_text = [c for c in read_png_chunks(saved(pnginfo=text)) if c[0] in (b'tEXt', b'iTXt')]
    colour = [
        (b'gAMA', struct.pack('>I', 45455)), (b'cICP', bytes([12, 16, 0, 1])), (b'cHRM', struct.pack('>8I', *range(8)))
    ]  # fmt: skip
    dead = [(b'zTXt', b'Raw profile type exif\0\0' + zlib.compress(b'old')), (b'tIME', bytes(7)), (b'bKGD', bytes(6))]
    content = png(IMAGE, 8, 2, *colour, *with_text, *dead)
    after, _, told = enlarged(content, 'PNG')
    kept = [c for c in read_png_chunks(after) if c[0] not in (b'IHDR', b'IDAT', b'IEND')]
    assert kept == [*colour, *with_text, (b'tIME', bytes(7))]
    assert told == []
    (sentence,) = enlarged(content, 'JPEG')[2]
    for word in ('gAMA', 'cICP', 'cHRM', 'Title', 'Author'):
        assert word in sentence


def exif_block(*entries):
    """Return an EXIF block of (tag, type, 4 bytes) entries."""
    packed = b''.join(struct.pack('<HHI', tag, kind, 4 if kind == 2 else 1) + data for tag, kind, data in entries)
    return b'Exif\0\0II*\0' + struct.pack('<IH', 8, len(entries)) + packed + struct.pack('<I', 0)


MAKER = (0x010F, 2, b'abc\0')
FLOAT = 11


def test_a_width_that_is_no_whole_number_does_not_matter():
    content = saved('JPEG', exif=exif_block((256, FLOAT, struct.pack('<f', 8.5)), MAKER))
    _, image, told = enlarged(content, 'JPEG')
    assert image.size == (48, 32)
    assert dict(image.getexif()) == {0x010F: 'abc'}
    assert told == []


def test_exif_that_pillow_reads_but_does_not_write_is_told():
    content = saved('JPEG', exif=exif_block(MAKER, (296, FLOAT, struct.pack('<f', 2.5))))
    _, image, told = enlarged(content, 'JPEG')
    assert image.size == (48, 32)
    assert not image.getexif()
    (sentence,) = told
    assert 'EXIF cannot be read and is dropped' in sentence


def test_exif_larger_than_jpeg_holds_is_told_and_the_image_written():
    exif = Image.Exif()
    exif[0x010F], exif[0x010E] = 'Maker', 'x' * 70_000
    content = saved('PNG', exif=exif)
    _, image, told = enlarged(content, 'JPEG')
    assert image.size == (48, 32)
    assert not image.getexif()
    assert len(told) == 1
    assert 'more than JPEG holds' in told[0]
    assert enlarged(content, 'PNG')[1].getexif()[0x010F] == 'Maker'


def test_damaged_exif_does_not_stop_the_image():
    content = saved('JPEG', exif=b'Exif\0\0II*\0' + struct.pack('<I', 8) + b'\xff' * 40)
    assert read_picture(content).pixels.shape == (16, 24, 3)


@pytest.mark.skipif('avif' not in features.get_supported_modules(), reason='this Pillow has no AVIF')
def test_avif_gives_its_metadata_too():
    exif = Image.Exif()
    exif[0x010F] = 'Maker'
    _, image, _ = enlarged(saved('AVIF', exif=exif), 'PNG')
    assert image.getexif()[0x010F] == 'Maker'
