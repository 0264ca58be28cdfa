"""Repairs that BasicSR 1.4.2 needs on today's libraries: one function each, with its reason.

`apply` runs those that do not belong to the life of a run (`kdsr.lifecycle`), once, when `kdsr` is imported. A repair
leaves alone what already works.
"""

from __future__ import annotations

from kdsr.compat import image_files, imports, lmdb_files, loading, option_files, running, swinir

_applied: list[str] = []


def apply() -> None:
    """Run every repair. Importing `kdsr` does this; a second call changes nothing."""
    if _applied:
        return
    for repair in (
        imports.repair_torchvision_operators,
        imports.repair_functional_tensor,
        imports.repair_distutils,
        imports.repair_ndimage_filters,
        imports.defer_scipy_stats,
        imports.repair_meshgrid_warning,
        imports.repair_registry,
        option_files.repair_yaml,
        option_files.repair_execution,
        option_files.repair_parse_options,
        loading.repair_load_network,
        image_files.repair_folder_order,
        image_files.repair_image_lists,
        image_files.repair_orientation,
        lmdb_files.repair_lmdb_sharing,
        lmdb_files.repair_lmdb_lists,
        running.repair_init_dist,
        running.repair_model_to_device,
        swinir.repair_swinir_masks,
    ):
        repair()
        _applied.append(repair.__name__)
