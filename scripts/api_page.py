"""Write docs/api.md, the public Python names, from their docstrings: `python scripts/api_page.py`."""

import inspect
import re
import textwrap
from pathlib import Path

import kdsr

PAGE = Path(__file__).parents[1] / 'docs' / 'api.md'
GROUPS = {
    'Train and check': ('distil', 'check_option_files'),
    'Use trained networks': ('load_network', 'Upscaler', 'FeatureTap'),
    'Build on kdsr': ('Batch', 'NetworkOutput', 'DistillationLoss', 'UserError'),
}
HEAD = """# Python API

`import kdsr` is quick; each name below loads what it needs when it is first used. Everything else in the package is
internal: it may change without notice. Made by `make docs` from the docstrings; the tests run every example.

Training itself is BasicSR's: `kdsr train FILE.yml`. What an option file may contain: [options.md](options.md).
"""
LOSSES = """
## Losses

`kdsr.losses.NAME`. A call is `loss(student, teacher, batch)` with two `kdsr.NetworkOutput` and a `kdsr.Batch`; it
returns a 0-dim tensor. Before the first call, `loss.build_helpers(student, teacher)` creates the modules that a loss
trains itself. All arguments: [the pages of the methods](methods.md).
"""
NETWORKS = """
## Networks

`kdsr.archs.NAME`, each a `torch.nn.Module` from (N, C, h, w) to (N, C, S*h, S*w) in [0, 1]. The defaults are the
published settings.
"""
SECTION = re.compile(r'^(Args|Attributes|Returns|Yields|Raises|Shape|References|Example):$')


def split_sections(doc):
    """Return the lines of each section of a docstring by its title; '' for what comes before."""
    sections, title = {'': []}, ''
    for line in doc.splitlines():
        found = SECTION.match(line)
        if found:
            title = found[1]
            sections[title] = []
        else:
            sections[title].append(line)
    return {title: textwrap.dedent('\n'.join(lines)).strip('\n') for title, lines in sections.items()}


def write_entries(text):
    """Turn `name: text` entries, with indented further lines, into a list."""
    joined = re.sub(r'\n {4,}', ' ', text)
    return [re.sub(r'^(\w+): ', r'* `\1`: ', line) for line in joined.splitlines() if line]


def write_intro(text):
    """Return paragraphs as they are, and indented ones (equations) as code."""
    parts = []
    for paragraph in text.split('\n\n'):
        lines = paragraph.splitlines()
        is_code = all(line.startswith('    ') for line in lines)
        parts.append(f'```text\n{textwrap.dedent(paragraph)}\n```' if is_code else paragraph)
    return '\n\n'.join(parts)


def write_name(name, found, level='###', brief=False):
    sections = split_sections(inspect.getdoc(found))
    lines = [f'{level} `kdsr.{name}`', '', '```text', write_call(name, found), '```', '']
    intro = sections[''].split('\n\n', 1)[0] if brief else write_intro(sections[''])
    lines += [intro, '']
    if not brief:
        for title in ('Args', 'Attributes', 'Returns', 'Raises'):
            if title == 'Returns' and title in sections:
                lines += [f'Returns: {sections[title]}', '']
            elif title in sections:
                lines += [f'{title}:', '', *write_entries(sections[title]), '']
    lines += ['```pycon', sections['Example'], '```', '']
    return lines


def write_call(name, found):
    """Return the name with its arguments and their defaults, without annotations, over several lines where needed."""
    if isinstance(found, type) and issubclass(found, Exception):
        return f'kdsr.{name}'
    parameters = inspect.signature(found).parameters.values()
    empty = inspect.Parameter.empty
    words = [p.name if p.default is empty else f'{p.name}={write_default(p.default)}' for p in parameters]
    return '\n'.join(textwrap.wrap(f'kdsr.{name}({", ".join(words)})', 110, subsequent_indent='    '))


def write_default(value):
    return '...' if callable(value) or repr(value).startswith('<') else repr(value)


def write_page():
    """Return the whole page."""
    documented = {name for names in GROUPS.values() for name in names} | {'archs', 'losses'}
    assert documented == set(kdsr.__all__), 'GROUPS must name every public name'
    lines = [HEAD]
    for title, names in GROUPS.items():
        lines += [f'## {title}', '']
        for name in names:
            lines += write_name(name, getattr(kdsr, name))
    for text, module in ((LOSSES, 'losses'), (NETWORKS, 'archs')):
        lines += [text.strip(), '']
        for name in getattr(kdsr, module).__all__:
            lines += write_name(f'{module}.{name}', getattr(getattr(kdsr, module), name), brief=True)
    return '\n'.join(lines).rstrip() + '\n'


if __name__ == '__main__':
    PAGE.write_text(write_page(), encoding='utf-8')
