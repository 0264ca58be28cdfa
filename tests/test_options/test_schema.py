"""The JSON schema for editors; jsonschema is not needed: :func:`errors` knows the few words that the schema uses."""

import json
from pathlib import Path

import pytest
import yaml

from kdsr import options
from kdsr.options import SafeLoader

FOLDER = Path(__file__).parents[2] / 'options'
FILES = sorted(p for p in FOLDER.rglob('*.yml') if 'runs:' not in p.read_text())
TYPES = {
    'object': dict, 'array': list, 'string': str, 'boolean': bool, 'integer': int, 'number': (int, float),
    'null': type(None),
}  # fmt: skip


def errors(value, schema, where=''):
    """Draft 7, as far as the schema goes."""
    types = schema.get('type', [])
    types = [types] if isinstance(types, str) else types
    if types and not any(isinstance(value, TYPES[t]) and (type(value) is not bool or t == 'boolean') for t in types):
        yield f'{where}: is no {types}'
    if 'enum' in schema and value not in schema['enum']:
        yield f'{where}: {value!r} is not one of {schema["enum"]}'
    if 'const' in schema and value != schema['const']:
        yield f'{where}: {value!r} is not {schema["const"]!r}'
    if isinstance(value, (int, float)) and value < schema.get('minimum', value):
        yield f'{where}: too small'
    if isinstance(value, dict):
        yield from mapping_errors(value, schema, where)
    for i, item in enumerate(value if isinstance(value, list) else ()):
        yield from errors(item, schema.get('items', {}), f'{where}[{i}]')
    for part in schema.get('allOf', ()):
        yield from errors(value, part, where)
    if 'anyOf' in schema and all(list(errors(value, part)) for part in schema['anyOf']):
        yield f'{where}: none of the alternatives'
    if 'if' in schema and not list(errors(value, schema['if'])):
        yield from errors(value, schema['then'], where)


def mapping_errors(value, schema, where):
    yield from (f'{where}: lacks {key}' for key in schema.get('required', ()) if key not in value)
    rest = schema.get('additionalProperties', {})
    for key, item in value.items():
        yield from errors(key, schema.get('propertyNames', {}), f'{where}.{key} (name)')
        inner = schema.get('properties', {}).get(key, rest)
        if inner is False:
            yield f'{where}.{key}: unknown'
        elif inner is not rest or rest:
            yield from errors(item, inner, f'{where}.{key}')


@pytest.fixture(scope='module')
def schema():
    return json.loads(json.dumps(options.build_schema()))


def test_shipped_files_fit_the_schema(schema):
    assert len(FILES) > 200
    for path in FILES:
        report = list(errors(yaml.load(path.read_text(), Loader=SafeLoader), schema))
        assert not report, (path, report)


@pytest.mark.parametrize(('text', 'where'), [
    ('{scal: 2}', '.scal'),
    ('{scale: two}', '.scale'),
    ('{num_gpu: many}', '.num_gpu'),
    ('{train: {ema_dacay: 0.9}}', '.train.ema_dacay'),
    ('{train: {optim_g: {type: Adem}}}', '.train.optim_g.type'),
    ('{distillation: {teachers: [{nam: x}]}}', '.distillation.teachers[0].nam'),
    ('{distillation: {features: {a: {studnet: x}}}}', '.distillation.features.a.studnet'),
    ('{datasets: {train: {type: PairedImageDataset, gt_siez: 3}}}', '.datasets.train.gt_siez'),
    ('{logger: {print_freq: 0}}', '.logger.print_freq'),
])  # fmt: skip
def test_mistakes_do_not_fit(schema, text, where):
    assert any(report.startswith(where) for report in errors(yaml.safe_load(text), schema))


@pytest.mark.parametrize('text', [
    '{model_type: TheirModel, their_key: 1, train: {theirs: 2}}',
    '{datasets: {train: {type: TheirDataset, theirs: 1}}}',
    '{model_type: RealESRNetModel, resize_prob: [0.2, 0.7, 0.1], gt_usm: true}',
    '{train: ~, distillation: ~, num_gpu: auto}',
])  # fmt: skip
def test_what_others_read_is_not_judged(schema, text):
    assert not list(errors(yaml.safe_load(text), schema))
