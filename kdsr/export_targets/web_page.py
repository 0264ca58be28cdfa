"""A web page that enlarges images in the browser: one HTML page, the ONNX model, and onnxruntime-web beside it."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import os
import shutil
import string
import subprocess
import tarfile
import tempfile
from importlib.resources import files
from pathlib import Path

from kdsr.deployment.card import ModelCard
from kdsr.durable import write_durably
from kdsr.errors import UserError

RUNTIME = 'onnxruntime-web'
RUNTIME_VERSION = '1.30.0'
RUNTIME_SHA512 = 'q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=='
SHIPPED = (  # of the package: WebAssembly, and WebGPU; a browser loads one of both
    'ort.wasm.bundle.min.mjs',
    'ort-wasm-simd-threaded.wasm',
    'ort.webgpu.bundle.min.mjs',
    'ort-wasm-simd-threaded.asyncify.wasm',
)
TILE = 192  # pixels of the input
OVERLAP = 32  # around a tile, where it is not known how far the network looks
BLEND = 8  # of these pixels, in which neighbours pass into each other
LARGEST = 64_000_000  # pixels of a result
_SECONDS = 600


def web_files(model: bytes, card: ModelCard) -> dict[str, bytes]:
    """Return the files of the page by their names in its folder.

    Args:
        model: ONNX, from RGB `lq` to RGB `sr`, (N, 3, h, w) in [0, 1].
        card: Of the network.

    Raises:
        UserError: onnxruntime-web is neither in the cache nor can be downloaded.
    """
    templates = files('kdsr.export_targets') / 'web'
    page = string.Template((templates / 'index.html').read_text(encoding='utf-8'))
    exact = card.reach is not None and card.reach <= 4 * OVERLAP
    settings = {
        'scale': card.scale,
        'tile': TILE,
        'overlap': card.reach if exact else OVERLAP,
        'blend': 0 if exact else BLEND,
        'largest': LARGEST,
    }
    filled = page.substitute(
        title=html.escape(card.name),
        heading=html.escape(f'{card.name}: {card.scale} times as large'),
        about=html.escape(f'{card.network.get("type", "A network")}, {card.parameters:,} parameters.'),
        settings=json.dumps(settings).replace('<', '\\u003c'),
    )
    return {
        'index.html': filled.encode(),
        'worker.mjs': (templates / 'worker.mjs').read_bytes(),
        'model.onnx': model,
        **{f'ort/{name}': content for name, content in runtime_files().items()},
    }


def runtime_files() -> dict[str, bytes]:
    """Return the files of onnxruntime-web that the page loads, of the pinned version, checked by its hash.

    Raises:
        UserError: the package is neither in the cache nor can be downloaded, or its content is another.
    """
    package = _package()
    with tarfile.open(fileobj=io.BytesIO(package), encoding='utf-8') as archive:
        members = {name: archive.extractfile(f'package/dist/{name}') for name in SHIPPED}
        return {name: member.read() for name, member in members.items() if member is not None}


def cached_package() -> Path:
    """Return where the package of onnxruntime-web is kept after its download."""
    root = os.environ.get('XDG_CACHE_HOME') or Path('~/.cache').expanduser()
    return Path(root, 'kdsr', f'{RUNTIME}-{RUNTIME_VERSION}.tgz')


def _package() -> bytes:
    cache = cached_package()
    if cache.is_file():
        content = cache.read_bytes()
        if _digest(content) == RUNTIME_SHA512:
            return content
    content = _download()
    if _digest(content) != RUNTIME_SHA512:
        raise UserError(f'--web: npm gave another {RUNTIME} {RUNTIME_VERSION} than the one that kdsr was tested with.')
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_durably(cache, content)
    return content


def _digest(content: bytes) -> str:
    return base64.b64encode(hashlib.sha512(content).digest()).decode()


def _download() -> bytes:
    """Let npm, with the user's settings, fetch the package once."""
    wanted = f'{RUNTIME}@{RUNTIME_VERSION}'
    by_hand = f'or run `npm pack {wanted}` elsewhere, and put the file at {cached_package()}'
    npm = shutil.which('npm')
    if npm is None:
        raise UserError(f'--web needs {wanted} once: install npm, {by_hand}.')
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [npm, 'pack', '--silent', wanted], cwd=folder, capture_output=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            done = None
        found = list(Path(folder).glob('*.tgz'))
        if done is None or done.returncode or not found:
            raise UserError(f'--web: npm cannot download {wanted}: check the connection, {by_hand}.')
        return found[0].read_bytes()
