"""What happens to a training run: seeding and sampling, stopping, resuming, saving, locking, progress."""

from __future__ import annotations

from kdsr.compat import running
from kdsr.lifecycle import bad_samples, locking, progress, resuming, sampling, saving, stopping

_applied: list[str] = []


def apply() -> None:
    """Put kdsr's functions in the place of BasicSR's. Importing `kdsr` does this; a second call changes nothing."""
    if _applied:
        return
    for repair in (
        resuming.repair_load_resume_state,
        locking.repair_experiment_folder,
        saving.repair_saving,
        stopping.repair_validation_record,
        bad_samples.repair_sample_names,
        bad_samples.repair_prefetching,
        running.repair_dataloader,
        running.repair_last_iteration,
        running.repair_distributed_validation,
        running.repair_epochs,
        sampling.repair_seed,
        sampling.repair_training_samples,
        sampling.repair_step_seeds,
        sampling.repair_order_after_resume,
        stopping.repair_signals,
        progress.repair_progress_line,
        progress.repair_loggers,
    ):
        repair()
        _applied.append(repair.__name__)
