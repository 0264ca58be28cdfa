"""What `kdsr zoo` says of the networks that come with kdsr."""

from __future__ import annotations

from pathlib import Path

from kdsr import zoo
from kdsr.deployment.card import ModelCard, read_card
from kdsr.errors import UserError, did_you_mean
from kdsr.metadata import safetensors_metadata


def list_zoo() -> str:
    """Return a Markdown table of the networks, with their scores on test sets."""
    cards = sorted(map(_read_card, zoo.list_names()), key=lambda card: (card.scale, card.parameters))
    sets = list(dict.fromkeys(name for card in cards for name in card.metrics))
    lines = [
        f'| name | scale | for | input | parameters | file | {" | ".join(f"{name}, PSNR / SSIM" for name in sets)} |',
        '|---|---|---|---|---|---|' + '---|' * len(sets),
    ]
    for card in cards:
        colour = 'Y' if card.luminance else 'RGB'
        size = Path(zoo.find_file(card.name)).stat().st_size / 1e6
        scores = (_format_scores(card, name) for name in sets)
        purpose = card.purpose.split(':')[0]
        cells = [f'`{card.name}`', f'x{card.scale}', purpose, colour, f'{card.parameters:,}', f'{size:.2f} MB', *scores]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def read_page(name: str) -> str:
    """Return a network's page.

    Raises:
        UserError: no network has this name.
    """
    path = zoo.FOLDER / f'{name}.md'
    known = zoo.list_names()
    if name not in known:
        raise UserError(f'the zoo has no {name!r}.{did_you_mean(name, known)} It has {", ".join(known)}.')
    return path.read_text(encoding='utf-8')


def _read_card(name: str) -> ModelCard:
    path = zoo.find_file(name)
    card = read_card(safetensors_metadata(path), path)
    assert card is not None
    return card


def _format_scores(card: ModelCard, dataset: str) -> str:
    scores = card.metrics.get(dataset, {})
    return f'{scores["psnr"]:.2f} / {scores["ssim"]:.4f}' if {'psnr', 'ssim'} <= set(scores) else ''
