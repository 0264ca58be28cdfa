"""The side bar of the website. The pages themselves stay plain Markdown."""

NAVIGATION = {
    'Start': ('README', 'docs/quickstart', 'docs/tutorial', 'docs/from_basicsr', 'docs/faq'),
    'How to': (
        'datasets/README', 'docs/speed', 'docs/teacher_cache', 'docs/resuming', 'docs/trust', 'docs/compare',
        'docs/benchmark', 'docs/comparability', 'docs/attribution', 'docs/real_world', 'docs/deployment',
        'docs/add_a_method',
    ),
    'Reference': ('docs/options', 'docs/command_line', 'docs/commands', 'docs/api', 'docs/modules', 'options/README'),
    'Methods': (
        'docs/methods', 'docs/methods/mtkd', 'docs/methods/lsfd', 'docs/methods/facd', 'docs/methods/pisr',
        'docs/methods/rfdn', 'docs/methods/fitnet', 'docs/methods/attention_transfer', 'docs/methods/fakd',
        'docs/methods/response', 'docs/methods/dukd', 'docs/methods/csd',
    ),
    'Results': ('docs/which_method', 'docs/results', 'docs/estimates', 'docs/zoo'),
    'Contribute': ('CONTRIBUTING', 'docs/architecture', 'docs/dependencies', 'CHANGELOG'),
}  # fmt: skip
TITLES = {
    'README': 'Overview', 'datasets/README': 'Data and weights', 'options/README': 'Option files',
    'docs/tutorial': 'Tutorial', 'docs/which_method': 'Does a teacher pay?', 'docs/commands': 'All arguments',
    'docs/attribution': 'Attribution', 'docs/comparability': 'Numbers of other tools', 'docs/methods': 'All methods',
    'docs/methods/mtkd': 'MTKD', 'docs/methods/lsfd': 'LSFD', 'docs/methods/facd': 'FACD', 'docs/methods/pisr': 'PISR',
    'docs/methods/rfdn': 'RFDN', 'docs/methods/fitnet': 'FitNet', 'docs/methods/attention_transfer': 'AT',
    'docs/methods/fakd': 'FAKD', 'docs/methods/response': 'KD', 'docs/methods/dukd': 'DUKD', 'docs/methods/csd': 'CSD',
    'docs/estimates': 'Estimates for GPUs', 'docs/zoo': 'The zoo', 'docs/architecture': 'Architecture',
}  # fmt: skip


def toctrees():
    """Return the side bar as hidden tables of contents, in MyST's Markdown."""
    for caption, pages in NAVIGATION.items():
        entries = (f'{TITLES[page]} </{page}>' if page in TITLES else f'/{page}' for page in pages)
        yield '\n'.join(['', '```{toctree}', ':hidden:', f':caption: {caption}', '', *entries, '```', ''])


def _add_to_the_first_page(app, name, source):
    if name == app.config.root_doc:
        source[0] += ''.join(toctrees())


def setup(app):
    """Register with Sphinx."""
    app.connect('source-read', _add_to_the_first_page)
    return {'parallel_read_safe': True}
