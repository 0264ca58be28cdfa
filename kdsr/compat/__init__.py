"""Every repair that BasicSR 1.4.2 needs on today's libraries: one function each, with its reason.

`apply` runs them all, once, when `kdsr` is imported. A repair leaves alone what already works.
"""

from __future__ import annotations

from kdsr.compat import (
    bad_samples,
    drawing,
    imports,
    loading,
    locking,
    option_files,
    progress,
    resuming,
    running,
    saving,
    stopping,
)

_applied: list[str] = []


def apply() -> None:
    """Run every repair. Importing `kdsr` does this; a second call changes nothing."""
    if _applied:
        return
    for repair in (
        imports.repair_torchvision_operators,
        imports.repair_functional_tensor,
        imports.repair_ndimage_filters,
        imports.repair_meshgrid_warning,
        imports.repair_registry,
        option_files.repair_yaml,
        option_files.repair_execution,
        option_files.repair_parse_options,
        resuming.repair_load_resume_state,
        loading.repair_load_network,
        locking.repair_experiment_folder,
        saving.repair_saving,
        stopping.repair_validation_record,
        running.repair_init_dist,
        running.repair_model_to_device,
        bad_samples.repair_sample_names,
        bad_samples.repair_prefetching,
        running.repair_dataloader,
        running.repair_last_iteration,
        running.repair_distributed_validation,
        running.repair_epochs,
        drawing.repair_seed,
        drawing.repair_training_samples,
        drawing.repair_step_seeds,
        drawing.repair_order_after_resume,
        stopping.repair_signals,
        progress.repair_progress_line,
        progress.repair_loggers,
    ):
        repair()
        _applied.append(repair.__name__)
