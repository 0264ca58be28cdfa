import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from kdsr.comparison.page import embed_picture, format_page
from kdsr.comparison.parts import ReportPicture, Table

VOID = {'meta', 'img'}


class Checker(HTMLParser):
    """Fails where an element is not closed in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def text(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)).save(tmp_path / 'a.png')
    facts = Table('', '', ('', ''), [('command', '`kdsr compare a<b.yml`'), ('budget', '**kd differs**')])
    rows = [('alone', '30.100 ± 0.100', ''), ('kd & co', '30.607', '+0.507 (p < 0.001) *'), ('worse', '29.9', '-0.2')]
    return format_page('cmp <1>', 'Which?', [facts, Table('psnr', 'How to read.', ('run', 'Set5', 'gain'), rows),
                                      ReportPicture('Curves', 'a.png', 'Mean.'), 'The end.'], tmp_path)  # fmt: skip


def test_the_page_is_whole_and_needs_nothing_beside_it(text):
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert '<script' not in text
    assert 'url(' not in text


def test_texts_are_escaped_and_marked(text):
    for told in (
        '<title>cmp &lt;1&gt;</title>', '<code>kdsr compare a&lt;b.yml</code>', '<b>kd differs</b>', 'kd &amp; co',
        '<td class="number up">+0.507 (p &lt; 0.001) *</td>', '<td class="number">-0.2</td>',
        '<td class="number">30.100 ± 0.100</td>', '<a href="#psnr">psnr</a>', '<h2 id="psnr">',
        '<footer>The end.</footer>', 'prefers-color-scheme: dark', 'width=device-width',
    ):  # fmt: skip
        assert told in text, told


def unpacked(address):
    head, _, content = address.partition(',')
    return head, Image.open(io.BytesIO(base64.b64decode(content)))


def test_pictures_keep_their_pixels_or_nearly(tmp_path):
    flat = np.zeros((300, 300, 3), np.uint8)
    flat[100:200] = 200
    Image.fromarray(flat).save(tmp_path / 'flat.png', compress_level=0)
    head, image = unpacked(embed_picture(tmp_path / 'flat.png'))
    np.testing.assert_array_equal(np.asarray(image.convert('RGB')), flat)
    ramp = np.linspace(60, 180, 600)[:, None, None] + np.random.default_rng(0).normal(0, 8, (600, 600, 3))
    noisy = np.clip(ramp, 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(tmp_path / 'noisy.png')
    head, image = unpacked(embed_picture(tmp_path / 'noisy.png'))
    assert head == 'data:image/webp;base64'
    assert not np.array_equal(np.asarray(image), noisy)
    assert np.abs(np.asarray(image).astype(int) - noisy).mean() < 12
