"""The option tables as a JSON schema, for editors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kdsr.options.basicsr_keys import DATASETS, OBSOLETE, SCHEDULERS, SECTIONS
from kdsr.options.model_classes import MODEL_CLASSES
from kdsr.options.sections import TOP, rows_of
from kdsr.options.table import TABLE, Option

_TYPES = {dict: 'object', list: 'array', str: 'string', bool: 'boolean', int: 'integer', float: 'number'}
JSON = dict[str, Any]


def build_schema() -> JSON:
    """Return the JSON schema (draft 7) of an option file; `make docs` writes it to docs/options.schema.json.

    Nothing is required, because a variant may leave everything to its base. The schema does not restrict keys of model
    classes and datasets that are not in the tables.
    """
    sections = {name: rows_of(name) for name in ('path', 'train', 'val', 'logger')}
    top = _describe_mapping(rows_of(TOP))
    top['properties'].update({name: _describe_mapping(rows) for name, rows in sections.items()})
    top['properties']['logger'] = _describe_closed_mapping(rows_of('logger'))
    top['properties']['logger']['properties']['wandb'] = _describe_closed_mapping(rows_of('logger.wandb'))
    top['properties']['dist_params'] = _describe_closed_mapping(rows_of('dist_params'))
    top['properties']['train']['properties'].update(
        optim_g=_describe_closed_mapping(rows_of('train.optim')),
        scheduler=_describe_mapping(
            {'type': Option((str,), 'Name.', choices=tuple(SCHEDULERS)), **_collect_scheduler_rows()}
        ),
    )
    top['properties']['distillation'] = _describe_distillation()
    top['properties']['datasets']['additionalProperties'] = _describe_dataset()
    top['properties']['num_gpu'] = {
        'description': top['properties']['num_gpu']['description'],
        'anyOf': [{'const': 'auto'}, {'type': 'integer', 'minimum': 0}],
    }
    return {
        '$schema': 'http://json-schema.org/draft-07/schema#',
        'title': 'Option file of BasicSR and kdsr',
        **top,
        'if': {'properties': {'model_type': {'enum': [*MODEL_CLASSES]}}},
        'then': _list_known_names(sections),
    }


def _list_known_names(sections: Mapping[str, Mapping[str, Option]]) -> JSON:
    """Allow only keys that one of the known model classes reads."""
    of_models = [name for row in MODEL_CLASSES.values() for name in row.own_keys]
    top = [*rows_of(TOP), *sections, 'distillation', *(n for n in of_models if '.' not in n), *OBSOLETE]
    inner = {
        section: [*rows, *(n.split('.')[1] for n in of_models if n.startswith(f'{section}.'))]
        for section, rows in sections.items()
    }
    inner['path'] += [f'{start}_d' for start in ('pretrain_network', 'param_key', 'strict_load')]
    return {
        'propertyNames': {'enum': _sort_names(top)},
        'properties': {name: {'propertyNames': {'enum': _sort_names(names)}} for name, names in inner.items()},
    }


def _sort_names(names: Iterable[str]) -> list[str]:
    return sorted(set(names))


def _collect_scheduler_rows() -> dict[str, Option]:
    rows = {k: o for name, table in SECTIONS.items() if name.startswith('train.scheduler') for k, o in table.items()}
    return {key: option for key, option in rows.items() if key != 'type'}


def _describe_distillation() -> JSON:
    block = _describe_closed_mapping(TABLE['distillation'])
    inside = block['properties']
    inside['teachers']['items'] = _describe_closed_mapping(TABLE['distillation.teachers[]'])
    inside['aggregator'].update(_describe_closed_mapping(TABLE['distillation.aggregator']))
    inside['init_from'].update(_describe_closed_mapping(TABLE['distillation.init_from']))
    inside['features']['additionalProperties'] = _describe_closed_mapping(TABLE['distillation.features.*'])
    cache = _describe_closed_mapping(TABLE['distillation.cache'])
    inside['cache'] = {'description': inside['cache']['description'], 'anyOf': [{'type': 'string'}, cache]}
    return block


def _describe_dataset() -> JSON:
    """Describe a dataset: the keys of its class, if the table has it."""
    rows = {key: option for table in DATASETS.values() for key, option in table.items()}
    block = _describe_mapping(rows)
    block['properties']['io_backend'] = _describe_closed_mapping(SECTIONS['io_backend'])
    block['allOf'] = [
        {
            'if': {'properties': {'type': {'const': name}}, 'required': ['type']},
            'then': {'propertyNames': {'enum': _sort_names([*table, *OBSOLETE])}},
        }
        for name, table in DATASETS.items()
    ]
    return block


def _describe_closed_mapping(rows: Mapping[str, Option]) -> JSON:
    return {**_describe_mapping(rows), 'additionalProperties': False}


def _describe_mapping(rows: Mapping[str, Option]) -> JSON:
    return {'type': ['object', 'null'], 'properties': {key: _describe_value(option) for key, option in rows.items()}}


def _describe_value(option: Option) -> JSON:
    """Describe one value; `~` switches off the value of a base."""
    if option.choices:
        return {'description': option.doc, 'enum': [*option.choices, None]}
    names = ['number' if option.whole else _TYPES[t] for t in option.types]
    value: JSON = {'description': option.doc, 'type': [*dict.fromkeys(names), 'null']}
    for key, bound in (('minimum', option.least), ('exclusiveMaximum', option.below)):
        if bound is not None:
            value[key] = bound
    if option.whole:
        value['multipleOf'] = 1
    return value
