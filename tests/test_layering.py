"""Imports run one way; files stay small enough to be read in one sitting."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'kdsr'
ORDER = [
    {'errors', 'environment', 'foreign', 'markdown', 'processes', 'progress_bars', 'wording'},
    {'plugins', 'durable', 'metadata', 'optional_packages', 'pyiqa_facts', 'zoo'},
    {'options', 'image_files'},
    {'compat'},
    {'experiment'},
    {'lifecycle', 'metrics', 'pyiqa_metric'},
    {'replacements'},
    {'distillation'},
    {'hourglass'},
    {'archs', 'losses', 'views', 'data'},
    {'models', 'pictures', 'papers'},
    {'checks', 'networks'},
    {'cost', 'comparison', 'inspection'},
    {'benchmark', 'deployment', 'authoring', 'quickstart'},
    {'export_targets', 'methods', 'old_names', 'pipelines'},
    {'commands'},
    {'first_use', 'cli'},
    {'train', 'test', 'run', '__init__'},
    {'__main__'},
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
FILES = sorted(p for p in PACKAGE.rglob('*.py'))


def room_of(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split('.')[0] == 'kdsr':
            parts = node.module.split('.')
            yield from [parts[1]] if len(parts) > 1 else [a.name for a in node.names if a.name in LEVEL]
        elif isinstance(node, ast.Import):
            yield from (a.name.split('.')[1] for a in node.names if a.name.startswith('kdsr.'))


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_from_the_rooms_below_it(path):
    room = room_of(path)
    assert room in LEVEL, f'{room} has no place in the order of rooms'
    for other in imported_rooms(path):
        same_room = other == room and path.parent != PACKAGE
        assert same_room or LEVEL[other] < LEVEL[room], f'{path.name} ({room}) imports {other}'


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_readable(path):
    assert len(path.read_text().splitlines()) <= 400


def test_rooms_and_files_stay_small():
    lines = {path: len(path.read_text().splitlines()) for path in FILES}
    rooms = {}
    for path, count in lines.items():
        rooms[room_of(path)] = rooms.get(room_of(path), 0) + count
    assert max(rooms.values()) <= 0.12 * sum(lines.values()), max(rooms, key=rooms.get)
    assert sorted(lines.values())[len(lines) // 2] <= 120


def test_options_stay_free_of_torch_and_basicsr():
    for path in (PACKAGE / 'options').glob('*.py'):
        imported = [
            line.split()[1].split('.')[0] for line in re.findall(r'^ *(?:import|from) .*', path.read_text(), re.M)
        ]
        assert not {'torch', 'basicsr'} & set(imported), path.name


def test_a_public_class_or_alias_has_its_name_alone():
    """One name for one thing. Networks may repeat the names of their layers: each file is usable alone."""
    places = {}
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            alias = isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript)  # Run = Callable[...]
            names = [node.name] if isinstance(node, ast.ClassDef) else [ast.unparse(node.targets[0])] if alias else []
            for name in names if room_of(path) != 'archs' else ():
                if name.isidentifier() and name[0].isupper() and not name.isupper():
                    places.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: of for name, of in places.items() if len(of) > 1} == {}


def compared_texts(path):
    """Yield every text that a comparison of a module names, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        for side in (node.left, *node.comparators) if isinstance(node, ast.Compare) else ():
            for part in ast.walk(side):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value, node.lineno


def test_only_the_table_of_model_classes_knows_their_names():
    """Adding a model class touches one place: nothing else asks for `model_type: DistillationModel`."""
    from kdsr.options.model_classes import MODEL_CLASSES

    found = [
        f'{path.relative_to(PACKAGE)}:{line} {text}'
        for path in FILES
        for text, line in compared_texts(path)
        if text in MODEL_CLASSES
    ]
    assert found == []


def test_what_a_program_does_never_depends_on_the_words_of_its_own_messages():
    """`'...' in str(error)` and `'...' in problem.text` break when a message is made clearer.

    Libraries that raise one class for everything leave no other way; each such place is named here.
    """
    foreign = {'compat/distributed.py'}  # torch.distributed, on layers without gradient: a plain RuntimeError
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(isinstance(op, (ast.In, ast.NotIn)) for op in node.ops):
                words = [ast.unparse(side) for side in node.comparators]
                if any(re.match(r'str\((error|e|problem|exc)\)|\w*problem\.text', text) for text in words):
                    found.append(str(path.relative_to(PACKAGE)))
    assert set(found) <= foreign
