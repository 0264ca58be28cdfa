"""The core, with no method inside: what a batch, a tapped feature, a teacher and a distillation loss are."""
