"""Formulas as MathML, which browsers draw themselves: no script and no connection is needed."""

from docutils.nodes import SkipNode
from latex2mathml.converter import convert


def mathml(formula, display):
    """Return a LaTeX formula as MathML; the converter knows `aligned` by another name only."""
    for end in ('begin', 'end'):
        formula = formula.replace(f'\\{end}{{aligned}}', f'\\{end}{{align*}}')
    return convert(formula, display='block' if display else 'inline')


def _inline(writer, node):
    writer.body.append(mathml(node.astext(), display=False))
    raise SkipNode


def _display(writer, node):
    writer.body.append(f'<div class="math">{mathml(node.astext(), display=True)}</div>\n')
    raise SkipNode


def setup(app):
    """Register with Sphinx."""
    app.add_html_math_renderer('mathml', (_inline, None), (_display, None))
    return {'parallel_read_safe': True}
