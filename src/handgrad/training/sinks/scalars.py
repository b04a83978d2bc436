"""A row's numbers by name, as sinks show them: what stands before a slash is drawn together."""

from handgrad.training.metrics import DiagnosisRow, EvaluationRow, Row, StepRow

VALIDATION = "loss/validation"


def of(row: Row) -> dict[str, float]:
    """A row's numbers by tag."""
    if isinstance(row, StepRow):
        return {
            "loss/training": row.loss,
            "learning_rate": row.learning_rate,
            "gradient_norm": row.gradient_norm,
        }
    if isinstance(row, EvaluationRow):
        mean = {} if row.train_loss is None else {"loss/training_mean": row.train_loss}
        return {VALIDATION: row.validation_loss, "bits_per_byte": row.bits_per_byte} | mean
    if isinstance(row, DiagnosisRow):
        return _of_layers(row)
    return {"skipped/largest_loss": row.largest_loss, "skipped/largest_norm": row.largest_gradient_norm}


def _of_layers(row: DiagnosisRow) -> dict[str, float]:
    by_layer = {"dead_units": row.dead_units, "residual_rms": row.residual_rms}
    found = {f"gradient_norm/{part}": norm for part, norm in row.gradient_norms.items()}
    found |= {f"update_ratio/{part}": ratio for part, ratio in row.update_ratios.items()}
    for what, numbers in by_layer.items():
        found |= {f"{what}/blocks.{layer}": number for layer, number in enumerate(numbers)}
    for layer, heads in enumerate(row.entropies):
        found |= {f"attention_entropy/blocks.{layer}.{head}": one for head, one in enumerate(heads)}
    return found
