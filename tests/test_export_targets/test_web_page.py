"""The exported page enlarges an image in a real browser, pixel for pixel as PyTorch does."""

import functools
import http.server
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from kdsr.cli import main
from kdsr.deployment.card import ModelCard
from kdsr.errors import UserError
from kdsr.export_targets import web_page
from kdsr.networks.loading import load_network
from tests.helpers.networks import known

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
CARD = ModelCard('a <b> & $c', {'type': 'RFDN'}, 2, parameters=1234, reach=7)


def test_the_page_shows_the_name_as_text_and_the_settings_of_the_network(monkeypatch):
    monkeypatch.setattr(web_page, 'runtime_files', dict)
    made = web_page.web_files(b'model', CARD)
    page = made['index.html'].decode()
    assert sorted(made) == ['index.html', 'model.onnx', 'worker.mjs']
    assert '<title>a &lt;b&gt; &amp; $c</title>' in page
    assert '"scale": 2, "tile": 192, "overlap": 7, "blend": 0' in page
    assert 'http://' not in page.replace('http.server', '')
    assert 'https://' not in page + made['worker.mjs'].decode()


def test_a_network_that_looks_at_the_whole_image_is_blended(monkeypatch):
    monkeypatch.setattr(web_page, 'runtime_files', dict)
    page = web_page.web_files(b'', ModelCard('n', {}, 2, reach=None))['index.html'].decode()
    assert '"overlap": 32, "blend": 8' in page


def test_another_package_than_the_pinned_one_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(web_page, '_download', lambda: b'something else')
    with pytest.raises(UserError, match='another onnxruntime-web'):
        web_page.runtime_files()
    assert not web_page.cached_package().exists()


def test_without_npm_the_message_says_where_the_package_belongs(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    with pytest.raises(UserError, match=r'npm pack onnxruntime-web@1\.30\.0.* at .*\.tgz'):
        web_page.runtime_files()


@pytest.fixture
def browser():
    """A page of Chromium, the system's or the one that `playwright install chromium` gives."""
    api = pytest.importorskip('playwright.sync_api')
    found = shutil.which('chromium') or shutil.which('google-chrome')
    with api.sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=found, args=['--no-sandbox'])
        except api.Error as error:
            pytest.skip(f'no Chromium: {error}')
        yield chromium.new_page(viewport={'width': 1100, 'height': 900})
        chromium.close()


@pytest.fixture
def serve():
    """Serve a folder as `python -m http.server` does."""
    servers = []

    def start(folder):
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f'http://127.0.0.1:{server.server_port}/'

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def photo(height, width):
    small = np.random.default_rng(0).integers(0, 256, (height // 6 + 1, width // 6 + 1, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('network', 'size'),
    [({'type': 'FSRCNN', 'upscale': 2}, (211, 397)), ({'type': 'RFDN', 'upscale': 3, 'num_feat': 16}, (61, 83))],
)
def test_the_browser_gives_pytorchs_pixels(workspace, browser, serve, network, size, monkeypatch):
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    if not web_page.cached_package().is_file():
        pytest.skip('onnxruntime-web is not in the cache; `make browser` downloads it')
    path = known(workspace, network)
    main(['export', path, '--formats', 'safetensors', '--web', '--out', 'out', '--repeats', '0'])
    folder = next((workspace.root / 'out').glob('*_web'))
    image = photo(*size)
    image.save('small.png')
    outside = []
    browser.on('request', lambda request: outside.append(request.url) if '127.0.0.1' not in request.url else None)
    browser.goto(serve(folder))
    browser.wait_for_selector('body[data-runtime]', timeout=60_000)
    browser.set_input_files('#file', 'small.png')
    browser.wait_for_selector('body[data-finished]', timeout=120_000)
    with browser.expect_download() as download:
        browser.click('#download')
    download.value.save_as('large.png')
    given = np.asarray(Image.open('large.png').convert('RGB')).astype(int)
    expected = enlarged_by_pytorch(load_network(path), image, network['upscale'])
    assert download.value.suggested_filename == f'small_x{network["upscale"]}.png'
    assert np.abs(given - expected).max() <= 1
    assert [url for url in outside if not url.startswith(('blob:', 'data:'))] == []


def enlarged_by_pytorch(network, image, scale):
    """Y through the network and bicubic chroma where it takes luminance; RGB through the network otherwise."""
    from kdsr.deployment.pixel_network import PixelNetwork

    channels = next(network.parameters()).shape[1]
    pixels = PixelNetwork(network, scale, luminance=channels == 1, channels=3, eight_bit=True)
    with torch.no_grad():
        return pixels(torch.from_numpy(np.array(image))[None])[0][0].numpy().astype(int)
