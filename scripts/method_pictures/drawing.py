"""A small vocabulary for the diagrams of docs/methods: networks, images, features, operations, losses, arrows.

Everywhere the fill says whose a thing is (student, teacher, a trainable helper, a loss), a thick red-brown border that
it is trained, a snowflake that it is frozen, and a dashed red-brown arrow where the gradient goes. In labels `$F_S$`
is set as mathematics: single letters in italics, `_` and `^` for one character or a group in braces.
"""

import html
import itertools
import re
from typing import NamedTuple

GREY, RED, BLUE, INK = '#444444', '#b5452c', '#2b6ca3', '#222222'
FILL = {
    'student': '#fbe3d6',
    'teacher': '#dbe9f6',
    'helper': '#e2efd8',
    'loss': '#f7f0c4',
    'data': '#f1f1f1',
    'none': '#ffffff',
}
SHEET = {'student': '#f0b391', 'teacher': '#a5c8e8', 'helper': '#b2d39b'}
BORDER = {'student': '#d07a4d', 'teacher': BLUE, 'data': GREY}
LEGEND = {
    'student': 'student',
    'teacher': 'teacher',
    'helper': 'helper (training only)',
    'loss': 'loss',
    'trained': 'trained',
    'frozen': 'frozen',
    'gradient': 'gradient',
    'tap': 'tap',
    'weights': 'weights copied',
    'truth': '$G$: ground truth',
}
STROKE = {
    'data': f'stroke="{GREY}" stroke-width="1.6"',
    'tap': f'stroke="{BLUE}" stroke-width="1.8" stroke-dasharray="2 3.5"',
    'gradient': f'stroke="{RED}" stroke-width="1.8" stroke-dasharray="6 4"',
    'weights': f'stroke="{GREY}" stroke-width="4.5" stroke-opacity="0.55"',
}
SANS, SERIF = 'Helvetica, Arial, sans-serif', "'Times New Roman', Times, serif"

# A landscape in the unit square, without any symmetry: (colour, polygon), or (colour, centre and radius).
SCENE = [
    ('#cfe4f2', [(0, 0), (1, 0), (1, 1), (0, 1)]),
    ('#f3c04d', (0.76, 0.22, 0.12)),
    ('#8aa4b5', [(-0.05, 0.72), (0.32, 0.2), (0.69, 0.72)]),
    ('#ffffff', [(0.32, 0.2), (0.23, 0.33), (0.29, 0.31), (0.33, 0.37), (0.38, 0.31), (0.41, 0.33)]),
    ('#6d8a76', [(0.36, 0.72), (0.7, 0.42), (1.1, 0.72)]),
    ('#9cba7c', [(0, 0.68), (1, 0.68), (1, 1), (0, 1)]),
    ('#c96f4a', [(0.56, 0.64), (0.82, 0.64), (0.82, 0.88), (0.56, 0.88)]),
    ('#7a3b2e', [(0.51, 0.66), (0.69, 0.5), (0.87, 0.66)]),
    ('#fff3cf', [(0.64, 0.7), (0.72, 0.7), (0.72, 0.88), (0.64, 0.88)]),
    ('#2f5a3a', [(0.2, 0.46), (0.09, 0.82), (0.31, 0.82)]),
    ('#6b4a32', [(0.18, 0.82), (0.22, 0.82), (0.22, 0.92), (0.18, 0.92)]),
]
SMALL = 8  # pixels per side of the low-resolution image
BLUR = {'gt': 0, 'teacher': 0.014, 'student': 0.026, 'bicubic': 0.06}


class Shape(NamedTuple):
    """A rectangle; its points are what arrows connect."""

    x: float
    y: float
    w: float
    h: float

    def at(self, fx, fy):
        return self.x + fx * self.w, self.y + fy * self.h

    left = property(lambda self: self.at(0, 0.5))
    right = property(lambda self: self.at(1, 0.5))
    top = property(lambda self: self.at(0.5, 0))
    bottom = property(lambda self: self.at(0.5, 1))
    centre = property(lambda self: self.at(0.5, 0.5))


def _number(value):
    return f'{value:.3f}'.rstrip('0').rstrip('.')


def _attributes(**values):
    return ''.join(
        f' {key.strip("_").replace("_", "-")}="{_number(v) if isinstance(v, (int, float)) else v}"'
        for key, v in values.items()
    )


def _points(points):
    return ' '.join(f'{_number(x)},{_number(y)}' for x, y in points)


def _inside(x, y, shape):
    if isinstance(shape, tuple):
        return (x - shape[0]) ** 2 + (y - shape[1]) ** 2 < shape[2] ** 2
    crossings = 0
    for (x1, y1), (x2, y2) in zip(shape, shape[1:] + shape[:1]):
        crossings += (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1
    return crossings % 2 == 1


def _colour(x, y):
    return next(colour for colour, shape in reversed(SCENE) if _inside(x, y, shape))


def _large():
    for colour, shape in SCENE:
        if isinstance(shape, tuple):
            yield f'<circle{_attributes(cx=shape[0], cy=shape[1], r=shape[2], fill=colour)}/>'
        else:
            yield f'<polygon points="{_points(shape)}" fill="{colour}"/>'


def _small(samples=5):
    """Average the landscape over each of SMALL x SMALL pixels."""
    steps = [(i + 0.5) / samples for i in range(samples)]
    for row in range(SMALL):
        for column in range(SMALL):
            seen = [_colour((column + u) / SMALL, (row + v) / SMALL) for u in steps for v in steps]
            mean = [round(sum(int(c[i : i + 2], 16) for c in seen) / len(seen)) for i in (1, 3, 5)]
            yield f'<rect x="{column}" y="{row}" width="1" height="1" fill="#{bytes(mean).hex()}"/>'


def _haar(contrast):
    """Split the landscape's brightness into its Haar bands; they lie side by side, low ones first, as grey values."""
    side = 2 * SMALL
    colours = [[_colour((j + 0.5) / side, (i + 0.5) / side) for j in range(side)] for i in range(side)]
    light = [[sum(int(c[k : k + 2], 16) for k in (1, 3, 5)) / 3 for c in row] for row in colours]
    for i in range(SMALL):
        for j in range(SMALL):
            a, b, c, d = (light[2 * i + u][2 * j + v] for u in (0, 1) for v in (0, 1))
            details = (a - b + c - d, a + b - c - d, a - b - c + d)
            values = [(a + b + c + d) / 4, *(128 + contrast * detail for detail in details)]
            for band, value in enumerate(values):
                grey = bytes([round(min(max(value, 0), 255))] * 3).hex()
                x, y = j + SMALL * (band % 2), i + SMALL * (band // 2)
                yield f'<rect x="{x}" y="{y}" width="1" height="1" fill="#{grey}"/>'


def _marked(text, size):
    """Turn a label with `$...$` into the content of an SVG text of this font size.

    Sizes and shifts are absolute: several renderers read percentages and em as something else.
    """
    pieces = []
    for part, piece in enumerate(text.split('$')):
        pieces.append(_mathematics(piece, size) if part % 2 else html.escape(piece, quote=False))
    return ''.join(pieces)


def _mathematics(formula, size):
    out, back = [], 0.0  # `back`: how far the baseline is from the line's
    for mark, group, word in re.findall(r'([_^])(\{[^}]*\}|.)|([^_^]+)', formula):
        shift = {'_': 0.28, '^': -0.42, '': 0.0}[mark]
        smaller = f' font-size="{_number(0.72 * size)}"' if mark else ''
        for run in re.findall(r'[A-Za-zα-ωΑ-Ω]+|[^A-Za-zα-ωΑ-Ω]+', group.strip('{}') or word):
            style = ' font-style="italic"' if len(run) == 1 and run.isalpha() else ''
            move = f' dy="{_number((shift - back) * size)}"' if shift != back else ''
            out.append(f'<tspan font-family="{SERIF}"{smaller}{style}{move}>{html.escape(run, quote=False)}</tspan>')
            back = shift
    if back:
        out.append(f'<tspan dy="{_number(-back * size)}">\u200b</tspan>')
    return ''.join(out)


class Picture:
    """One diagram, 960 wide; things are drawn in the order of the calls."""

    width = 960

    def __init__(self, title):
        self.title, self.parts, self.used, self.images = title, [], set(), set()
        self.words = dict(LEGEND)  # what the legend says

    def add(self, tag, content=None, **attributes):
        end = '/>' if content is None else f'>{content}</{tag}>'
        self.parts.append(f'<{tag}{_attributes(**attributes)}{end}')

    def text(self, x, y, label, size=15, anchor='middle', fill=INK, **more):
        """Write one line, its middle at height y."""
        if label:
            self.add(
                'text',
                _marked(label, size),
                x=x,
                y=y + 0.34 * size,
                font_size=size,
                text_anchor=anchor,
                fill=fill,
                **more,
            )

    def lines(self, x, y, labels, size=15, anchor='middle', fill=INK, **more):
        """Write lines around the height y, the first in `size`, the others smaller."""
        sizes = [size] + [min(size, 13)] * (len(labels) - 1)
        heights = [1.28 * s for s in sizes]
        top = y - sum(heights) / 2
        for label, line, height in zip(labels, sizes, heights):
            self.text(x, top + height / 2, label, line, anchor, fill, **more)
            top += height

    def fraction(self, x, y, over, under, width, size=15):
        """Write a fraction, its line around (x, y)."""
        self.text(x, y - 0.75 * size, over, size)
        self.text(x, y + 0.8 * size, under, size)
        self.add('path', d=f'M{_number(x - width / 2)} {y}H{_number(x + width / 2)}', stroke=INK, stroke_width=1.2)

    def dots(self, x, y):
        """Say "and so on", downwards."""
        for i in (-1, 0, 1):
            self.add('circle', cx=x, cy=y + 6 * i, r=1.8, fill=GREY)

    def panel(self, x, y, w, h, title):
        """Draw the frame of a stage, its title in the upper left corner."""
        self.add('rect', x=x, y=y, width=w, height=h, rx=8, fill='none', stroke='#c4c4c4')
        self.text(x + 14, y + 18, title, 15, 'start', font_weight='bold')

    def box(self, x, y, w, h, labels, kind='none', state='', size=15, rx=6):
        """Draw a network or an operation: `kind` is its fill, `state` 'trained', 'frozen' or neither."""
        self.used |= {kind, state}
        edge = {'stroke': RED, 'stroke_width': 3} if state == 'trained' else {'stroke': GREY, 'stroke_width': 1.4}
        self.add('rect', x=x, y=y, width=w, height=h, rx=rx, fill=FILL[kind], **edge)
        self.lines(x + w / 2, y + h / 2, labels, size)
        if state == 'frozen':
            self.snowflake(x + w - 11, y + 11)
        return Shape(x, y, w, h)

    def loss(self, x, y, w, h, labels, size=15):
        """Draw a loss."""
        return self.box(x, y, w, h, labels, 'loss', size=size)

    def wedge(self, x, y, w, left, right, labels, kind, state):
        """Draw a network that changes the size of its map: as high as `left` and `right` at its ends, around y."""
        self.used |= {kind, state}
        ends = [(x, y - left / 2), (x + w, y - right / 2), (x + w, y + right / 2), (x, y + left / 2)]
        edge = {'stroke': RED, 'stroke_width': 3} if state == 'trained' else {'stroke': GREY, 'stroke_width': 1.4}
        self.add('polygon', points=_points(ends), fill=FILL[kind], stroke_linejoin='round', **edge)
        self.lines(x + w / 2, y, labels)
        if state == 'frozen':
            self.snowflake(x + (w - 11 if right > left else 11), y - max(left, right) / 2 + 17)
        return Shape(x, y - max(left, right) / 2, w, max(left, right))

    def snowflake(self, x, y, r=6.5):
        arms = [(0, 1), (0.866, 0.5), (0.866, -0.5)]
        path = ''.join(f'M{_points([(x - r * u, y - r * v)])}L{_points([(x + r * u, y + r * v)])}' for u, v in arms)
        self.add('path', d=path, stroke=BLUE, stroke_width=1.7, stroke_linecap='round', fill='none')

    def sign(self, x, y, label, r=13):
        """Draw a round operation such as a product."""
        self.add('circle', cx=x, cy=y, r=r, fill='#ffffff', stroke=GREY, stroke_width=1.4)
        self.text(x, y, label, 18)
        return Shape(x - r, y - r, 2 * r, 2 * r)

    def image(self, x, y, size, kind, label='', part=(0, 0, 1, 1), look='', changed=False, below=True):
        """Draw an image: 'lq', 'gt', 'teacher', 'student' or 'bicubic', of which `part` (x, y, w, h) is shown.

        `look` is the kind whose sharpness it has, where that is another; `changed` inverts its colours and flips it.
        """
        look = look or kind
        self.images |= {'lq' if look == 'lq' else 'hr', look}
        if kind == 'gt':
            self.used.add('truth')
        use = f'<use href="#{"lq" if look == "lq" else "hr"}" width="1" height="1"{{}}/>'
        content = use.format('') + (use.format(f' filter="url(#blur-{look})"') if BLUR.get(look) else '')
        change = {}
        if changed:
            self.images.add('invert')
            mirror = 2 * part[0] + part[2]
            change = {'transform': f'matrix(-1 0 0 1 {_number(mirror)} 0)', 'filter': 'url(#invert)'}
        frame = {'x': x, 'y': y, 'width': size, 'height': size}
        self.add('svg', f'<g{_attributes(**change)}>{content}</g>', viewBox=' '.join(map(_number, part)), **frame)
        self.add('rect', fill='none', stroke=BORDER.get(kind, GREY), stroke_width=2, **frame)
        if label:
            self.text(x + size / 2, y + size + 12 if below else y - 12, label)
        return Shape(x, y, size, size)

    def feature(self, x, y, kind, label='', size=30, sheets=3, below=True):
        """Draw a feature map, a stack of channels."""
        reach = 5 * (sheets - 1)
        for i in range(sheets):
            corner = {'x': x + 5 * i, 'y': y + reach - 5 * i}
            self.add('rect', width=size, height=size, fill=SHEET[kind], stroke=GREY, stroke_width=1, **corner)
        if label:
            self.text(x + (size + reach) / 2, y + size + reach + 12 if below else y - 12, label)
        return Shape(x, y, size + reach, size + reach)

    def grid(self, x, y, cell, colours):
        """Draw a matrix or a map: rows of colours."""
        for i, row in enumerate(colours):
            for j, colour in enumerate(row):
                self.add('rect', x=x + cell * j, y=y + cell * i, width=cell, height=cell, fill=colour)
        shape = Shape(x, y, cell * len(colours[0]), cell * len(colours))
        self.add('rect', x=x, y=y, width=shape.w, height=shape.h, fill='none', stroke=GREY, stroke_width=1.2)
        return shape

    def bands(self, x, y, size, kind):
        """Draw the four wavelet bands of an image."""
        self.images.add(f'haar-{kind}')
        self.add('use', href=f'#haar-{kind}', x=x, y=y, width=size, height=size)
        half = size / 2
        path = f'M{x} {y + half}H{x + size}M{x + half} {y}V{y + size}'
        self.add('path', d=path, stroke='#ffffff', stroke_width=2)
        self.add('rect', x=x, y=y, width=size, height=size, fill='none', stroke=BORDER[kind], stroke_width=2)
        return Shape(x, y, size, size)

    def arrow(self, *points, label='', kind='data', at=None, anchor='middle', size=15, head=True):
        """Draw an arrow through points, its corners round; the label stands at `at`, or above its longest leg."""
        self.used.add(kind)
        path = f'M{_points(points[:1])}'
        for before, corner, after in zip(points, points[1:], points[2:]):
            path += f'L{_points([_towards(corner, before)])}Q{_points([corner, _towards(corner, after)])}'
        end = {'marker_end': f'url(#{"red" if kind == "gradient" else "grey"})'} if head and kind != 'weights' else {}
        if kind == 'weights':
            end = {'marker_end': 'url(#thick)'}
        drawn = f'<path d="{path}L{_points(points[-1:])}" fill="none" {STROKE[kind]}{_attributes(**end)}/>'
        self.parts.append(drawn)
        if label:
            (x1, y1), (x2, y2) = max(itertools.pairwise(points), key=lambda leg: abs(leg[0][0] - leg[1][0]))
            x, y = at or ((x1 + x2) / 2, (y1 + y2) / 2 - 11)
            self.text(x, y, label, size, anchor, RED if kind == 'gradient' else INK)

    def legend(self, y):
        """Explain what was used, in one line."""
        x = 20.0
        for key, label in self.words.items():
            if key not in self.used:
                continue
            if key in FILL:
                self.add('rect', x=x, y=y - 8, width=22, height=16, rx=4, fill=FILL[key], stroke=GREY)
            elif key == 'trained':
                self.add('rect', x=x, y=y - 8, width=22, height=16, rx=4, fill='#ffffff', stroke=RED, stroke_width=3)
            elif key == 'frozen':
                self.snowflake(x + 13, y)
            elif key == 'truth':
                x -= 29
            else:
                self.arrow((x - 4, y), (x + 24, y), kind=key)
            self.text(x + 29, y, label, 13, 'start')
            x += 29 + 6.4 * len(label) + 17

    def svg(self, height):
        """Return the file, with the legend at the bottom."""
        self.legend(height - 20)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {_number(height)}" '
            f'font-family="{SANS}" role="img">\n<title>{html.escape(self.title, quote=False)}</title>\n<defs>'
        )
        background = f'<rect width="{self.width}" height="{_number(height)}" fill="#ffffff"/>'
        return '\n'.join([head, *self._definitions(), '</defs>', background, *self.parts, '</svg>']) + '\n'

    def _definitions(self):
        for name, colour, side in (('grey', GREY, 7), ('red', RED, 7), ('thick', '#8f8f8f', 3)):
            yield (
                f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="{side}" markerHeight="{side}" '
                f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>'
            )
        if 'hr' in self.images:
            yield f'<symbol id="hr" viewBox="0 0 1 1">{"".join(_large())}</symbol>'
        if 'lq' in self.images:
            pixels = ''.join(_small())
            yield f'<symbol id="lq" viewBox="0 0 {SMALL} {SMALL}" shape-rendering="crispEdges">{pixels}</symbol>'
        side = 2 * SMALL
        for kind, contrast in (('teacher', 1), ('student', 0.4)):
            if f'haar-{kind}' in self.images:
                head = f'<symbol id="haar-{kind}" viewBox="0 0 {side} {side}" shape-rendering="crispEdges">'
                yield f'{head}{"".join(_haar(contrast))}</symbol>'
        for kind in BLUR:
            if kind in self.images and BLUR[kind]:
                yield f'<filter id="blur-{kind}"><feGaussianBlur stdDeviation="{BLUR[kind]}"/></filter>'
        if 'invert' in self.images:
            slopes = ''.join(f'<feFunc{c} type="linear" slope="-1" intercept="1"/>' for c in 'RGB')
            transfer = f'<feComponentTransfer>{slopes}</feComponentTransfer>'
            yield f'<filter id="invert" color-interpolation-filters="sRGB">{transfer}</filter>'


def _towards(corner, other, radius=8):
    """Return the point where a round corner begins."""
    distance = abs(other[0] - corner[0]) + abs(other[1] - corner[1])
    step = min(radius, distance / 2) / distance
    return corner[0] + step * (other[0] - corner[0]), corner[1] + step * (other[1] - corner[1])


def shade(value, kind):
    """Return the colour of a value from 0 to 1, from white to the colour of whose it is, or of a 'map'."""
    end = {'student': '#c85f2c', 'teacher': '#1d5b96', 'map': '#a8321a'}[kind]
    value = min(max(value, 0.0), 1.0)
    return '#' + bytes(round(255 + value * (int(end[i : i + 2], 16) - 255)) for i in (1, 3, 5)).hex()
